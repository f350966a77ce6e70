//! A session's end, which comes in any case.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use tokio::sync::{OnceCell, mpsc};

use super::{Report, SessionSignals, WorkerLaunch, report, run_worker};
use crate::{
    failpoint, lifecycle::context::Context, model::Failure, prepared::Lease,
    supervisor::panic_message, worker::Process,
};

/// Runs a worker to its end, which is reported also when what sees to the worker panics: the worker is killed then, and
/// reaped before its end is reported.
pub(super) async fn run_session(
    context: Arc<Context>,
    launch: WorkerLaunch,
    signals: SessionSignals,
    reports: mpsc::Sender<Report>,
) {
    let model = launch.config.model.to_string();
    let socket = launch.config.socket.clone();
    let resources = SessionResources::default();
    let lifetime = async {
        tokio::select! {
            () = run_worker(context, launch, signals, &reports, &resources) => {}
            never = failpoint::meets("worker-run", Some(&model)) => match never {},
        }
    };
    if let Err(panic) = AssertUnwindSafe(lifetime).catch_unwind().await {
        let panic = panic_message(&*panic);
        tracing::error!(
            model,
            panic,
            "the task of the model's worker panicked; killing the worker"
        );
        report(&reports, Report::Fault(Failure::of_a_lost_task())).await;
        if let Some(process) = resources.process.get() {
            process.kill();
            process.exited().await;
        }
        let _ = tokio::fs::remove_file(&socket).await;
        report(&reports, Report::Exited(Failure::of_a_lost_task())).await;
    }
    if let Some(lease) = resources.lease.into_inner() {
        lease.end().await;
    }
}

/// What has to be given back, however a run ends.
#[derive(Default)]
pub(super) struct SessionResources {
    pub(super) process: OnceCell<Process>,
    /// Of prepared weights, once the worker has told what it makes use of.
    pub(super) lease: OnceCell<Lease>,
}
