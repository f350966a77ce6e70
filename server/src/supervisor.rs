//! Tasks and threads that are watched.
//!
//! Invariant: no task dies in silence. One of the server's own that panics, or ends although it should not, is a
//! [`Death`], which stops the server; one that belongs to a model or to a request tells its owner, who acts upon it.
//! One that no longer turns shows in [`Supervisor::is_turning`], and so in the liveness of the server.

mod heart;
mod tasks;

use std::{
    any::Any,
    borrow::Cow,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use heart::Heart;
pub use tasks::Tasks;

use crate::failpoint;
use heart::Hearts;

/// Watches the tasks of one server. Clones are the same supervisor.
#[derive(Clone, Debug)]
pub struct Supervisor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The first one.
    death: watch::Sender<Option<Death>>,
    hearts: Hearts,
    stopping: CancellationToken,
}

/// The end of a task that the server cannot do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// The task.
    pub task: Name,
    /// What it panicked with; `None`: it ended although it should not.
    pub panic: Option<String>,
}

/// Name of a task or thread.
pub type Name = Cow<'static, str>;

/// Status of a server that ended because of a fault of its own: `EX_SOFTWARE` of `sysexits.h`.
pub const FAULT: u8 = 70;

/// Between two looks at whether all tasks turn.
const LOOKS: Duration = Duration::from_secs(1);

// === impl Supervisor ===

impl Supervisor {
    /// A supervisor that takes a task for stuck that has not turned for the time `patience`.
    pub fn new(patience: Duration) -> Self {
        Self(Arc::new(Inner {
            death: watch::Sender::new(None),
            hearts: Hearts::new(patience),
            stopping: CancellationToken::new(),
        }))
    }

    /// Tasks to be waited for together.
    pub fn tasks(&self) -> Tasks {
        Tasks::new(self.clone())
    }

    /// Starts the thread `name`, which the server cannot do without: a panic of it is a death. Its heart rests at first:
    /// it is to beat where the thread begins what has to end soon, and to rest where it waits for more.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn thread(
        &self,
        name: impl Into<Name>,
        work: impl FnOnce(&Heart) + Send + 'static,
    ) -> io::Result<thread::JoinHandle<()>> {
        let name = name.into();
        let supervisor = self.clone();
        let builder = thread::Builder::new().name(name.clone().into_owned());
        builder.spawn(move || {
            let heart = supervisor.heart(name.clone(), Duration::ZERO);
            heart.rest();
            let work = || {
                failpoint::pass(&name, None);
                work(&heart);
            };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                supervisor.died(name.clone(), Some(words(&*panic)));
            }
        })
    }

    /// The heart of the loop `name`, which beats at least once in each `period`, from now on.
    pub fn heart(&self, name: impl Into<Name>, period: Duration) -> Heart {
        Heart::new(self.clone(), name.into(), period)
    }

    /// The server stops: tasks may end from now on.
    pub fn stop(&self) {
        self.0.stopping.cancel();
    }

    /// Waits for a death. Safe to cancel.
    pub async fn death(&self) -> Death {
        let mut death = self.0.death.subscribe();
        let first = death.wait_for(Option::is_some).await;
        match first.ok().and_then(|death| death.clone()) {
            Some(death) => death,
            // The sender lives as long as this does.
            None => std::future::pending().await,
        }
    }

    /// Whether there was a death.
    pub fn has_died(&self) -> bool {
        self.0.death.borrow().is_some()
    }

    /// Whether no task has died and none is stuck.
    pub fn is_turning(&self) -> bool {
        !self.has_died() && self.0.hearts.stuck().is_empty()
    }

    /// Calls `changed` whenever [`Self::is_turning`] has changed, until the server stops.
    pub async fn watch(self, changed: impl Fn() + Send) {
        let heart = self.heart("liveness", LOOKS);
        let mut looks = tokio::time::interval(LOOKS);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut before = Vec::new();
        loop {
            tokio::select! {
                () = self.0.stopping.cancelled() => return,
                _ = looks.tick() => heart.beat(),
            }
            let stuck = self.0.hearts.stuck();
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

    fn died(&self, task: Name, panic: Option<String>) {
        let death = Death { task, panic };
        tracing::error!("{death}; the server stops");
        self.0.death.send_if_modified(|first| {
            let news = first.is_none();
            first.get_or_insert(death);
            news
        });
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new(Duration::from_secs(30))
    }
}

// === impl Death ===

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.panic {
            Some(words) => write!(f, "the task {} panicked: {words}", self.task),
            None => write!(f, "the task {} ended by itself", self.task),
        }
    }
}

/// Has every panic of the process told by the log, with its place.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let words = panic.payload_as_str().unwrap_or("no message");
        let location = panic.location().map(ToString::to_string);
        let thread = thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        tracing::error!(thread, location, panic = words, "a thread panicked");
    }));
}

/// What a panic says.
pub(crate) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}

#[cfg(test)]
mod tests;
