//! The task of a worker from its start to its end, which comes in any case.

use std::{panic::AssertUnwindSafe, path::PathBuf, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::{sync::mpsc, task::spawn_blocking, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    WorkerLaunch, WorkerReport, WorkerResources, WorkerSignals, WorkerTask, report, run_worker,
};
use crate::{failpoint, lifecycle::context::Context, model::Failure, supervisor::panic_message};

/// How long the end of a task waits for the file system that a worker's socket is on.
const SOCKET_REMOVAL_TIMEOUT: Duration = Duration::from_secs(2);

impl WorkerTask {
    /// Starts a worker for `launch`.
    pub(in crate::lifecycle) fn start(context: &Arc<Context>, launch: WorkerLaunch) -> Self {
        let (sender, reports) = mpsc::channel(16);
        let signals = WorkerSignals {
            build: CancellationToken::new(),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
        };
        let on_stuck = sender.clone();
        let lifetime = run_to_the_end(context.clone(), launch, signals.clone(), sender);
        context.tasks.of_model("worker-run", lifetime, move || {
            // A driver that has so much to hear of already will hear of the end.
            let _ = on_stuck.try_send(WorkerReport::Fault(Failure::of_panicked_task()));
        });
        Self { reports, signals }
    }
}

/// Runs a worker to its end, which is reported also when what sees to the worker panics: the worker is killed then, and
/// reaped before its end is reported. What the worker leaves behind is seen to afterwards: nobody waits for a file system.
async fn run_to_the_end(
    context: Arc<Context>,
    launch: WorkerLaunch,
    signals: WorkerSignals,
    reports: mpsc::Sender<WorkerReport>,
) {
    let model = launch.model.to_string();
    let socket = launch.socket.clone();
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
        report(&reports, WorkerReport::Fault(Failure::of_panicked_task())).await;
        if let Some(process) = resources.process.get() {
            process.kill();
            process.exited().await;
        }
        report(&reports, WorkerReport::Exited(Failure::of_panicked_task())).await;
    }
    if let Some(lease) = resources.lease.into_inner() {
        lease.end().await;
    }
    let removed = timeout(SOCKET_REMOVAL_TIMEOUT, remove_socket(socket, model)).await;
    if removed.is_err() {
        tracing::warn!(
            "the socket of a worker that has ended cannot be removed: its file system hangs"
        );
    }
}

/// Removes the socket that the worker of `model` leaves behind when it is killed. There may be none yet.
async fn remove_socket(socket: PathBuf, model: String) {
    let removing = spawn_blocking(move || {
        failpoint::pass("worker-socket", Some(&model));
        let _ = std::fs::remove_file(socket);
    });
    // It does not panic but on demand.
    let _ = removing.await;
}
