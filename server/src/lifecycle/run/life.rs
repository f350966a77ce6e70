//! A run's end, which comes in any case.

use std::{panic::AssertUnwindSafe, path::PathBuf, sync::Arc};

use futures::FutureExt;
use tokio::sync::{OnceCell, mpsc};

use super::{Orders, Report, Task, attempt, tell};
use crate::{
    failpoint, lifecycle::fleet::Context, model::Failure, prepared::Lease, supervisor::words,
    worker::Process,
};

/// Runs a worker to its end, which is reported also when what sees to the worker panics: the worker is killed then, and
/// reaped before its end is reported.
pub(super) async fn live(
    context: Arc<Context>,
    task: Task,
    orders: Orders,
    reports: mpsc::Sender<Report>,
) {
    let model = task.model.to_string();
    let socket = PathBuf::from(&task.config.socket_path);
    let held = Held::default();
    let life = async {
        tokio::select! {
            () = attempt(context, task, orders, &reports, &held) => {}
            never = failpoint::meets("worker-run", Some(&model)) => match never {},
        }
    };
    if let Err(panic) = AssertUnwindSafe(life).catch_unwind().await {
        let panic = words(&*panic);
        tracing::error!(
            model,
            panic,
            "the task of the model's worker panicked; killing the worker"
        );
        tell(&reports, Report::Fault(Failure::of_a_lost_task())).await;
        if let Some(process) = held.process.get() {
            process.kill();
            process.exited().await;
        }
        let _ = tokio::fs::remove_file(&socket).await;
        tell(&reports, Report::Exited(Failure::of_a_lost_task())).await;
    }
    if let Some(lease) = held.lease.into_inner() {
        lease.end().await;
    }
}

/// What has to be given back, however a run ends.
#[derive(Default)]
pub(super) struct Held {
    pub(super) process: OnceCell<Process>,
    /// Of prepared weights, once the worker has told what it makes use of.
    pub(super) lease: OnceCell<Lease>,
}
