//! The life of a model as a pure function: no clock, no I/O.
//!
//! ```text
//! UNLOADED → PENDING → DOWNLOADING → STARTING → LOADING → WARMING → READY → DRAINING → UNLOADING → UNLOADED
//!               ↑                        │          │         │       │
//!               └─────── BACKOFF ←───────┴──────────┴─────────┴───────┘ → FAILED
//! ```
//!
//! One driver task per model is the only caller of [`State::on`]. It performs the [`Action`]s in their
//! order and reports what comes of them as further [`Event`]s.
//!
//! Invariants, kept by every transition and checked by the property tests:
//! - a worker process exists only from STARTING to UNLOADING, and never two of them: a worker that is
//!   to go is *terminating* and the state stays until its exit was seen;
//! - a load slot is requested or held only from PENDING to WARMING;
//! - requests are admitted only in READY, and not by a terminating worker;
//! - each load is finished exactly once;
//! - from every state, an unload leads back to UNLOADED.

mod transition;

use strum::{EnumDiscriminants, IntoStaticStr, VariantArray};
#[cfg(test)]
use transition::EventKind;
pub use transition::{Action, Cause, Event};

use super::{Failure, LoadId, Reason, RestartPolicy};

/// Where a model stands, with what belongs to it there.
#[derive(Clone, Debug, PartialEq, EnumDiscriminants)]
#[strum_discriminants(
    name(StateKind),
    doc = "States of a model's life without their data, as users see them.",
    derive(Hash, IntoStaticStr, VariantArray),
    strum(serialize_all = "snake_case")
)]
pub enum State {
    /// No worker lives, and none is wanted.
    Unloaded,
    /// Waits for a load slot.
    Pending(Load),
    /// Its files are being downloaded.
    Downloading(Load),
    /// Its worker is being started and inspects the files.
    Starting(HostedLoad),
    /// The engine reads the weights.
    Loading(HostedLoad),
    /// The engine generates a first token.
    Warming(HostedLoad),
    /// Serves requests.
    Ready(HostedLoad),
    /// Takes no new requests.
    Draining {
        /// Why the worker went, when it did.
        fault: Option<Failure>,
        /// What to load afterwards.
        next: Option<Load>,
    },
    /// Its worker is being stopped.
    Unloading {
        /// What has become of the worker.
        worker: UnloadingWorker,
        /// Why the worker went before it was asked to, when it did.
        fault: Option<Failure>,
        /// What comes once it is gone.
        then: AfterUnload,
    },
    /// Another attempt is scheduled.
    Backoff {
        /// The load whose next attempt it is.
        load: Load,
        /// How the last attempt ended.
        failure: Failure,
    },
    /// Nothing more happens without a request.
    Failed {
        /// The load that failed, or the one whose worker died.
        load: Load,
        /// Why.
        failure: Failure,
    },
}

/// A load: what was asked for, and which attempt this is.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The load.
    pub id: LoadId,
    /// Attempts in a row, this one included, from 1.
    pub attempt: u32,
    /// What happens when it fails.
    pub policy: RestartPolicy,
    /// Whether its files have to be downloaded first.
    pub remote: bool,
}

/// A load with a worker process.
#[derive(Clone, Debug, PartialEq)]
pub struct HostedLoad {
    /// The load.
    pub load: Load,
    /// Why the worker was killed, until its exit is seen.
    pub terminating: Option<Failure>,
}

/// Steps of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[allow(missing_docs, reason = "the variants are those of hangar.v1.LoadPhase")]
pub enum LoadPhase {
    Pending,
    Downloading,
    Starting,
    Loading,
    Warming,
}

/// What goes on in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateGroup {
    /// Nothing, until somebody asks for something.
    Idle,
    /// A load.
    Load(LoadPhase),
    /// A wait between two attempts of a load.
    Retry,
    /// The worker answers requests.
    Serve,
    /// The worker answers the requests that it has.
    Drain,
    /// The worker is stopped.
    Stop,
}

/// What has become of the worker in UNLOADING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnloadingWorker {
    /// It was asked to stop.
    Stopping,
    /// It was killed and did not go.
    Unreaped,
    /// It was reaped; its memory is being checked.
    Gone,
}

/// What a model becomes when the worker that is being stopped is gone.
#[derive(Clone, Debug, PartialEq)]
pub enum AfterUnload {
    /// UNLOADED.
    Unloaded,
    /// This is loaded.
    Next(Load),
    /// What the policy of the load makes of its failure: nobody asked for an unload, but the killed worker did not go.
    WorkerLost {
        /// The load that failed, or the one whose worker was lost.
        load: Load,
        /// Why.
        failure: Failure,
    },
}

impl State {
    /// The state without its data.
    pub fn kind(&self) -> StateKind {
        self.into()
    }

    /// The state of a model that watchers know as `kind` and whose worker is being killed.
    pub fn terminating(kind: StateKind, load: Load, failure: Failure) -> Self {
        let terminating = Some(failure);
        match kind {
            StateKind::Draining => Self::Draining {
                fault: terminating,
                next: None,
            },
            StateKind::Unloading => Self::Unloading {
                worker: UnloadingWorker::Stopping,
                fault: terminating,
                then: AfterUnload::Unloaded,
            },
            StateKind::Loading => Self::Loading(HostedLoad { load, terminating }),
            StateKind::Warming => Self::Warming(HostedLoad { load, terminating }),
            StateKind::Ready => Self::Ready(HostedLoad { load, terminating }),
            StateKind::Unloaded
            | StateKind::Pending
            | StateKind::Downloading
            | StateKind::Starting
            | StateKind::Backoff
            | StateKind::Failed => Self::Starting(HostedLoad { load, terminating }),
        }
    }

    /// The load that is under way, that made the model READY, or that failed.
    pub fn load(&self) -> Option<&Load> {
        match self {
            Self::Pending(load) | Self::Downloading(load) => Some(load),
            Self::Starting(run) | Self::Loading(run) | Self::Warming(run) | Self::Ready(run) => {
                Some(&run.load)
            }
            Self::Backoff { load, .. } | Self::Failed { load, .. } => Some(load),
            Self::Unloaded | Self::Draining { .. } | Self::Unloading { .. } => None,
        }
    }

    /// What is loaded as soon as the unload that is under way has ended.
    pub fn next(&self) -> Option<&Load> {
        match self {
            Self::Draining { next, .. } => next.as_ref(),
            Self::Unloading { then, .. } => then.next(),
            Self::Unloaded | Self::Pending(_) | Self::Downloading(_) => None,
            Self::Starting(_) | Self::Loading(_) | Self::Warming(_) | Self::Ready(_) => None,
            Self::Backoff { .. } | Self::Failed { .. } => None,
        }
    }

    /// Whether its worker is on its way out while the state still says otherwise.
    pub fn is_terminating(&self) -> bool {
        match self {
            Self::Starting(run) | Self::Loading(run) | Self::Warming(run) | Self::Ready(run) => {
                run.terminating.is_some()
            }
            Self::Unloaded | Self::Pending(_) | Self::Downloading(_) => false,
            Self::Draining { .. } | Self::Unloading { .. } => false,
            Self::Backoff { .. } | Self::Failed { .. } => false,
        }
    }

    /// From now on `policy` says what happens after a failure, and `remote` whether an attempt begins with a
    /// download.
    pub fn set_policy(&mut self, policy: RestartPolicy, remote: bool) {
        let load = match self {
            Self::Pending(load) | Self::Downloading(load) | Self::Backoff { load, .. } => load,
            Self::Starting(run) | Self::Loading(run) | Self::Warming(run) | Self::Ready(run) => {
                &mut run.load
            }
            Self::Draining {
                next: Some(load), ..
            }
            | Self::Unloading {
                then: AfterUnload::Next(load) | AfterUnload::WorkerLost { load, .. },
                ..
            } => load,
            Self::Draining { .. } | Self::Unloading { .. } => return,
            Self::Unloaded | Self::Failed { .. } => return,
        };
        load.policy = policy;
        load.remote = remote;
    }

    /// Whether the worker was killed and did not go.
    pub fn is_unreaped(&self) -> bool {
        matches!(
            self,
            Self::Unloading {
                worker: UnloadingWorker::Unreaped,
                ..
            }
        )
    }

    /// What went wrong, as far as users should know.
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Backoff { failure, .. } | Self::Failed { failure, .. } => Some(failure.clone()),
            Self::Draining { fault, .. } => fault.clone(),
            Self::Unloading {
                worker: UnloadingWorker::Unreaped,
                ..
            } => Some(unreaped()),
            Self::Unloading { fault, .. } => fault.clone(),
            Self::Unloaded | Self::Pending(_) | Self::Downloading(_) => None,
            Self::Starting(_) | Self::Loading(_) | Self::Warming(_) | Self::Ready(_) => None,
        }
    }
}

impl StateKind {
    /// What goes on in it, and whether it may have a worker: both are said here, once for each state, and the methods
    /// below read them here.
    fn about(self) -> (StateGroup, bool) {
        match self {
            Self::Unloaded => (StateGroup::Idle, false),
            Self::Pending => (StateGroup::Load(LoadPhase::Pending), false),
            Self::Downloading => (StateGroup::Load(LoadPhase::Downloading), false),
            Self::Starting => (StateGroup::Load(LoadPhase::Starting), true),
            Self::Loading => (StateGroup::Load(LoadPhase::Loading), true),
            Self::Warming => (StateGroup::Load(LoadPhase::Warming), true),
            Self::Ready => (StateGroup::Serve, true),
            Self::Draining => (StateGroup::Drain, true),
            Self::Unloading => (StateGroup::Stop, true),
            Self::Backoff => (StateGroup::Retry, false),
            Self::Failed => (StateGroup::Idle, false),
        }
    }

    /// Lower-case name, for logs and metrics; in capitals, that of `hangar.v1.ModelState`.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// What goes on in it.
    pub fn group(self) -> StateGroup {
        self.about().0
    }

    /// Whether there may be a worker.
    pub fn has_worker(self) -> bool {
        self.about().1
    }

    /// The phase of the load that makes progress.
    pub fn load_phase(self) -> Option<LoadPhase> {
        match self.group() {
            StateGroup::Load(phase) => Some(phase),
            StateGroup::Idle | StateGroup::Retry => None,
            StateGroup::Serve | StateGroup::Drain | StateGroup::Stop => None,
        }
    }

    /// Whether a load is under way, waits between attempts included.
    pub fn is_loading(self) -> bool {
        matches!(self.group(), StateGroup::Load(_) | StateGroup::Retry)
    }

    /// Whether an unload is under way.
    pub fn is_unloading(self) -> bool {
        matches!(self.group(), StateGroup::Drain | StateGroup::Stop)
    }

    /// Whether the model has a worker or is about to get one.
    pub fn is_active(self) -> bool {
        self.group() != StateGroup::Idle
    }
}

impl LoadPhase {
    /// Lower-case name; in capitals, that of `hangar.v1.LoadPhase`.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl AfterUnload {
    /// The load that comes afterwards, if one was asked for.
    fn next(&self) -> Option<&Load> {
        match self {
            Self::Next(load) => Some(load),
            Self::Unloaded | Self::WorkerLost { .. } => None,
        }
    }
}

impl From<Option<Load>> for AfterUnload {
    fn from(next: Option<Load>) -> Self {
        next.map_or(Self::Unloaded, Self::Next)
    }
}

impl Load {
    /// The first attempt of a new load.
    pub fn first(policy: RestartPolicy) -> Self {
        Self {
            id: LoadId::random(),
            attempt: 1,
            policy,
            remote: false,
        }
    }
}

impl HostedLoad {
    pub(super) fn new(load: Load) -> Self {
        Self {
            load,
            terminating: None,
        }
    }

    fn terminate(self, failure: Failure) -> Self {
        Self {
            terminating: Some(failure),
            ..self
        }
    }
}

/// The failure of a worker that is killed and does not go.
fn unreaped() -> Failure {
    Failure::new(
        Reason::Unreaped,
        "the worker was killed but the system keeps its process, most likely in a device or disk call; its \
         memory stays reserved until it goes",
    )
}

/// The failure of requests that an unload ends.
fn unloaded() -> Failure {
    Failure::new(
        Reason::ModelUnloaded,
        "the model was unloaded before the request ended; load it and ask again",
    )
}

/// The failure of requests that a reload ends.
fn reloaded() -> Failure {
    Failure::new(
        Reason::ModelUnloaded,
        "the model is loaded anew, and the request did not end in the time that it had; ask again",
    )
}

#[cfg(test)]
mod tests;
