//! The task of a worker from its start to its end, which comes in any case.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    WorkerLaunch, WorkerReport, WorkerResources, WorkerSignals, WorkerTask, report, run_worker,
};
use crate::{failpoint, lifecycle::context::Context, model::Failure, supervisor::panic_message};

impl WorkerTask {
    /// Starts a worker for `launch`.
    pub(in crate::lifecycle) fn start(context: &Arc<Context>, launch: WorkerLaunch) -> Self {
        let (sender, reports) = mpsc::channel(16);
        let signals = WorkerSignals {
            build: CancellationToken::new(),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
        };
        let lost = sender.clone();
        let lifetime = run_to_the_end(context.clone(), launch, signals.clone(), sender);
        context.tasks.of_model("worker-run", lifetime, move || {
            // A driver that has so much to hear of already will hear of the end.
            let _ = lost.try_send(WorkerReport::Fault(Failure::of_a_lost_task()));
        });
        Self { reports, signals }
    }
}

/// Runs a worker to its end, which is reported also when what sees to the worker panics: the worker is killed then, and
/// reaped before its end is reported.
async fn run_to_the_end(
    context: Arc<Context>,
    launch: WorkerLaunch,
    signals: WorkerSignals,
    reports: mpsc::Sender<WorkerReport>,
) {
    let model = launch.config.model.to_string();
    let socket = launch.config.socket.clone();
    let resources = WorkerResources::default();
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
        report(&reports, WorkerReport::Fault(Failure::of_a_lost_task())).await;
        if let Some(process) = resources.process.get() {
            process.kill();
            process.exited().await;
        }
        let _ = tokio::fs::remove_file(&socket).await;
        report(&reports, WorkerReport::Exited(Failure::of_a_lost_task())).await;
    }
    if let Some(lease) = resources.lease.into_inner() {
        lease.end().await;
    }
}
