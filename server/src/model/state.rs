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

use super::{Failure, LoadId, LoadOutcome, Reason, RestartPolicy, Stage};

/// Where a model stands, with what belongs to it there.
#[derive(Clone, Debug, PartialEq)]
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
        worker: Remains,
        /// Why the worker went before it was told to, when it did.
        fault: Option<Failure>,
        /// What comes once it is gone.
        then: Afterwards,
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

/// What has become of the worker in UNLOADING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remains {
    /// It was told to stop.
    Stopping,
    /// It was killed and did not go.
    Unreaped,
    /// It was reaped; its memory is being checked.
    Gone,
}

/// What a model becomes when the worker that is being stopped is gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Afterwards {
    /// UNLOADED.
    Unloaded,
    /// This is loaded.
    Next(Load),
    /// What the policy of the load makes of its failure: nobody asked for an unload, but the killed worker did not go.
    Lost {
        /// The load that failed, or the one whose worker was lost.
        load: Load,
        /// Why.
        failure: Failure,
    },
}

/// What happens to a model.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Somebody wants it loaded.
    Load(Load),
    /// Somebody wants it loaded anew, whatever it is doing.
    Reload(Load),
    /// It is to be unloaded.
    Unload(Cause),
    /// A load slot is free.
    SlotGranted,
    /// The files are here.
    Downloaded,
    /// The worker has inspected the files, and what they need is reserved.
    Inspected,
    /// The worker has built the engine.
    EngineBuilt,
    /// The worker has generated a token.
    Warmed,
    /// The worker, or the download, is in no state to go on.
    Fault(Failure),
    /// The time of the load is over.
    LoadExpired(Failure),
    /// No worker process lives any more, or none could be started.
    Exited {
        /// Why, where nothing better is known.
        failure: Failure,
        /// Id of the load that a restart would be.
        restart: LoadId,
    },
    /// No request runs or waits any more.
    Drained,
    /// The time for draining is over.
    DrainExpired,
    /// The worker was killed and did not go.
    Unreaped,
    /// The memory of the reaped worker was checked.
    Verified {
        /// Id of the load that a restart would be.
        restart: LoadId,
    },
    /// The wait before the next attempt is over.
    RetryDue,
    /// The model has been READY for its stable period.
    Stable,
}

/// Why a model is unloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Somebody asked for it, or the server is shutting down.
    Asked,
    /// Room is needed.
    Evicted,
    /// Nobody used it for its idle time-out.
    Idle,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Queue for a load slot.
    RequestSlot,
    /// Give the load slot back, or leave its queue.
    ReleaseSlot,
    /// Download the files.
    Download,
    /// Stop downloading.
    StopDownload,
    /// Start a worker.
    Spawn,
    /// Tell the worker to build the engine.
    BuildEngine,
    /// Admit requests.
    Admit,
    /// Admit no more requests and report when none is left.
    Drain,
    /// Admit no more requests and end those that are left with this failure.
    CutOff(Failure),
    /// Ask the worker to exit, and kill it if it does not.
    Stop,
    /// Kill the worker.
    Kill,
    /// Check that the memory of the reaped worker came back.
    Verify,
    /// Report [`Event::RetryDue`] after the back-off that belongs to this attempt.
    ScheduleRetry(u32),
    /// The load has ended so.
    Finish(LoadId, LoadOutcome),
    /// Load this now.
    Resume(Load),
}

/// An event that means nothing in the state that it met. The state is unchanged.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{event:?} means nothing to a model that is {stage:?}")]
pub struct Rejected {
    /// The stage that the event met.
    pub stage: Stage,
    /// The event.
    pub event: Event,
}

impl State {
    /// The state without its data.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Unloaded => Stage::Unloaded,
            Self::Pending(_) => Stage::Pending,
            Self::Downloading(_) => Stage::Downloading,
            Self::Starting(_) => Stage::Starting,
            Self::Loading(_) => Stage::Loading,
            Self::Warming(_) => Stage::Warming,
            Self::Ready(_) => Stage::Ready,
            Self::Draining { .. } => Stage::Draining,
            Self::Unloading { .. } => Stage::Unloading,
            Self::Backoff { .. } => Stage::Backoff,
            Self::Failed { .. } => Stage::Failed,
        }
    }

    /// The state of a model that watchers know as `stage` and whose worker is being killed.
    pub fn terminating(stage: Stage, load: Load, failure: Failure) -> Self {
        let terminating = Some(failure);
        match stage {
            Stage::Draining => Self::Draining {
                fault: terminating,
                next: None,
            },
            Stage::Unloading => Self::Unloading {
                worker: Remains::Stopping,
                fault: terminating,
                then: Afterwards::Unloaded,
            },
            Stage::Loading => Self::Loading(HostedLoad { load, terminating }),
            Stage::Warming => Self::Warming(HostedLoad { load, terminating }),
            Stage::Ready => Self::Ready(HostedLoad { load, terminating }),
            Stage::Unloaded
            | Stage::Pending
            | Stage::Downloading
            | Stage::Starting
            | Stage::Backoff
            | Stage::Failed => Self::Starting(HostedLoad { load, terminating }),
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
    pub fn renew(&mut self, policy: RestartPolicy, remote: bool) {
        let load = match self {
            Self::Pending(load) | Self::Downloading(load) | Self::Backoff { load, .. } => load,
            Self::Starting(run) | Self::Loading(run) | Self::Warming(run) | Self::Ready(run) => {
                &mut run.load
            }
            Self::Draining {
                next: Some(load), ..
            }
            | Self::Unloading {
                then: Afterwards::Next(load) | Afterwards::Lost { load, .. },
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
                worker: Remains::Unreaped,
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
                worker: Remains::Unreaped,
                ..
            } => Some(unreaped()),
            Self::Unloading { fault, .. } => fault.clone(),
            Self::Unloaded | Self::Pending(_) | Self::Downloading(_) => None,
            Self::Starting(_) | Self::Loading(_) | Self::Warming(_) | Self::Ready(_) => None,
        }
    }
}

impl Afterwards {
    /// The load that comes afterwards, if one was asked for.
    fn next(&self) -> Option<&Load> {
        match self {
            Self::Next(load) => Some(load),
            Self::Unloaded | Self::Lost { .. } => None,
        }
    }
}

impl From<Option<Load>> for Afterwards {
    fn from(next: Option<Load>) -> Self {
        next.map_or(Self::Unloaded, Self::Next)
    }
}

impl Load {
    /// The first attempt of a new load.
    pub fn first(policy: RestartPolicy) -> Self {
        Self {
            id: LoadId::fresh(),
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

#[cfg(test)]
mod tests;
