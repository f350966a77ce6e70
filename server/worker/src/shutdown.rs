//! That the worker ends, and how: said once, by whoever sees the reason first.

use std::sync::{Arc, OnceLock};

use hangar_worker_protocol::ExitCode;
use tokio_util::sync::CancellationToken;

/// The worker's end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shutdown {
    code: Arc<OnceLock<ExitCode>>,
    begun: CancellationToken,
}

/// Held by a task that the worker cannot do without: a panic of that task ends the worker.
#[derive(Debug)]
pub(crate) struct CriticalTask {
    shutdown: Shutdown,
    task: &'static str,
}

impl Shutdown {
    /// To be held by `task` for as long as it runs.
    pub(crate) fn critical(&self, task: &'static str) -> CriticalTask {
        CriticalTask {
            shutdown: self.clone(),
            task,
        }
    }

    /// Begins the end. Only the first reason counts.
    pub(crate) fn begin(&self, code: ExitCode) {
        self.code.get_or_init(|| code);
        self.begun.cancel();
    }

    /// The reason, once the end has begun.
    pub(crate) fn reason(&self) -> Option<ExitCode> {
        self.code.get().copied()
    }

    /// Returns the reason as soon as the end has begun.
    pub(crate) async fn begun(&self) -> ExitCode {
        self.begun.cancelled().await;
        self.reason().unwrap_or(ExitCode::System)
    }
}

impl Drop for CriticalTask {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                task = self.task,
                "a task that the worker cannot do without panicked; the worker ends"
            );
            self.shutdown.begin(ExitCode::TaskDied);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    async fn a_panic_of_a_vital_task_is_a_reason_and_its_end_is_none() {
        let shutdown = Shutdown::default();
        let mut tasks = tokio::task::JoinSet::new();
        let critical = shutdown.critical("one");
        tasks.spawn(async move { drop(critical) });
        let ended = tasks.join_next().await.expect("a task");
        ended.expect("it ended well");
        assert_eq!(shutdown.reason(), None);
        let critical = shutdown.critical("two");
        tasks.spawn(async move {
            let _critical = critical;
            panic!("for a test")
        });
        let panicked = tasks.join_next().await.expect("a task");
        panicked.expect_err("a panic");
        assert_eq!(shutdown.begun().await, ExitCode::TaskDied);
    }

    #[bounded::test]
    async fn the_first_exit_code_is_the_one_that_the_process_ends_with() {
        let shutdown = Shutdown::default();
        assert_eq!(shutdown.reason(), None);
        shutdown.begin(ExitCode::EngineDied);
        shutdown.begin(ExitCode::Requested);
        assert_eq!(shutdown.begun().await, ExitCode::EngineDied);
    }
}
