//! Tasks and threads that are watched.
//!
//! Invariant: no task dies in silence. One of the server's own that panics, or ends although it should not, is a
//! [`TaskFailure`], which stops the server; one that belongs to a model or to a request notifies its owner, who acts upon it.
//! One that no longer turns shows in [`Supervisor::is_live`], and so in the liveness of the server, if the server cannot
//! do without it; the owner of one that belongs to a model is notified, and fails that model.

mod failure;
mod liveness;
mod tasks;

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

pub(crate) use failure::panic_message;
pub use failure::{TaskFailure, TaskName};
pub use liveness::LivenessProbe;
use liveness::LivenessProbes;
pub use tasks::Tasks;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    watch,
};
use tokio_util::sync::CancellationToken;

use crate::failpoint;

/// Watches the tasks of one server. Clones are the same supervisor.
#[derive(Clone, Debug)]
pub struct Supervisor(Arc<SupervisorState>);

#[derive(Debug)]
struct SupervisorState {
    /// The first one.
    failure: watch::Sender<Option<TaskFailure>>,
    probes: LivenessProbes,
    stopping: CancellationToken,
}

/// Status of a server that ended because of a fault of its own: `EX_SOFTWARE` of `sysexits.h`.
pub const FAULT: u8 = 70;

/// Between two looks at whether all tasks turn.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

impl Supervisor {
    /// A supervisor that takes a task for stuck that has not turned for the time `limit`.
    pub fn new(limit: Duration) -> Self {
        Self(Arc::new(SupervisorState {
            failure: watch::Sender::new(None),
            probes: LivenessProbes::new(limit),
            stopping: CancellationToken::new(),
        }))
    }

    /// Starts the thread `name`, which the server cannot do without: a panic of it is a task failure. Its probe rests at first:
    /// it is to be marked alive where the thread begins what has to end soon, and to rest where it waits for more.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn thread(
        &self,
        name: impl Into<TaskName>,
        work: impl FnOnce(&LivenessProbe) + Send + 'static,
    ) -> io::Result<thread::JoinHandle<()>> {
        let name = name.into();
        let supervisor = self.clone();
        let builder = thread::Builder::new().name(name.clone().into_owned());
        builder.spawn(move || {
            let probe = supervisor.liveness_probe(name.clone(), Duration::ZERO);
            probe.pause();
            let work = || {
                failpoint::pass(&name, None);
                work(&probe);
            };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                supervisor.task_failed(name.clone(), Some(panic_message(&*panic)));
            }
        })
    }

    /// Liveness of the loop `name`, which is marked alive at least once in each `period`, from now on.
    pub fn liveness_probe(&self, name: impl Into<TaskName>, period: Duration) -> LivenessProbe {
        self.0.probes.add(name.into(), period, None)
    }

    /// The server stops: tasks may end from now on.
    pub fn stop(&self) {
        self.0.stopping.cancel();
    }

    /// Waits for a task failure. Safe to cancel.
    pub async fn failure(&self) -> TaskFailure {
        let mut failure = self.0.failure.subscribe();
        let first = failure.wait_for(Option::is_some).await;
        match first.ok().and_then(|failure| failure.clone()) {
            Some(failure) => failure,
            // The sender lives as long as this does.
            None => std::future::pending().await,
        }
    }

    /// Whether there was a task failure.
    pub fn has_failed(&self) -> bool {
        self.0.failure.borrow().is_some()
    }

    /// Whether no task has failed and none is stuck that the server cannot do without.
    pub fn is_live(&self) -> bool {
        !self.has_failed() && self.0.probes.stuck().is_empty()
    }

    /// A clock for [`Self::watch`], which runs in a thread of its own until it is dropped.
    ///
    /// A task that does not let go of its thread may have been the one that looked after the runtime's timers and
    /// sockets, and nobody takes that over as long as no other thread of the runtime is woken: this clock wakes one.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn clock(&self) -> io::Result<mpsc::Receiver<()>> {
        let (tick, ticks) = mpsc::channel(1);
        self.thread("liveness-clock", move |_| {
            while !matches!(tick.try_send(()), Err(TrySendError::Closed(()))) {
                thread::park_timeout(CHECK_INTERVAL);
            }
        })?;
        Ok(ticks)
    }

    /// Calls `changed` whenever [`Self::is_live`] has changed, and notifies owners of their tasks, at each tick of `clock` until
    /// the server stops.
    pub async fn watch(self, mut clock: mpsc::Receiver<()>, changed: impl Fn() + Send) {
        let probe = self.liveness_probe("liveness", CHECK_INTERVAL);
        let mut before = Vec::new();
        loop {
            tokio::select! {
                () = self.0.stopping.cancelled() => return,
                Some(()) = clock.recv() => probe.mark_alive(),
            }
            self.0.probes.report_stuck_tasks();
            let stuck = self.0.probes.stuck();
            if stuck != before {
                if stuck.is_empty() {
                    tracing::warn!("all tasks turn again");
                } else {
                    tracing::error!(tasks = %stuck.join(", "), "tasks no longer turn");
                }
                changed();
                before = stuck;
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.0.stopping.is_cancelled()
    }

    fn task_failed(&self, task: TaskName, panic: Option<String>) {
        let failure = TaskFailure { task, panic };
        tracing::error!("{failure}; the server stops");
        self.0.failure.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(failure);
            is_first
        });
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new(Duration::from_secs(30))
    }
}

#[cfg(test)]
mod tests;
