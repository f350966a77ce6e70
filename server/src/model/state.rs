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
//!   to go is *condemned* and the state stays until its exit was seen;
//! - a load slot is requested or held only from PENDING to WARMING;
//! - requests are admitted only in READY, and not by a condemned worker;
//! - each load is finished exactly once;
//! - from every state, an unload leads back to UNLOADED.

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
    Starting(Run),
    /// The engine reads the weights.
    Loading(Run),
    /// The engine generates a first token.
    Warming(Run),
    /// Serves requests.
    Ready(Run),
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
        /// What to load afterwards.
        next: Option<Load>,
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
pub struct Run {
    /// The load.
    pub load: Load,
    /// Why the worker was killed, until its exit is seen.
    pub condemned: Option<Failure>,
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
    Verified,
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
    /// Its alias was switched to another model.
    Switched,
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

type Transition = Result<(State, Vec<Action>), Rejected>;

// === impl State ===

impl State {
    /// The state that `event` leads to, and what is to be done on the way.
    ///
    /// # Errors
    ///
    /// When `event` means nothing here: it comes too late, or from a worker that is gone.
    pub fn on(&self, event: Event) -> Transition {
        match self.clone() {
            Self::Unloaded | Self::Failed { .. } => self.on_rest(event),
            Self::Pending(load) => self.on_pending(load, event),
            Self::Downloading(load) => self.on_downloading(load, event),
            Self::Starting(run) | Self::Loading(run) | Self::Warming(run) => self.on_load(run, event),
            Self::Ready(run) => self.on_ready(run, event),
            Self::Draining { fault, next } => self.on_draining(fault, next, event),
            Self::Unloading { worker, next } => self.on_unloading(worker, next, event),
            Self::Backoff { load, failure } => self.on_backoff(load, failure, event),
        }
    }

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

    /// The load that is under way, that made the model READY, or that failed.
    pub fn load(&self) -> Option<&Load> {
        match self {
            Self::Pending(load) | Self::Downloading(load) => Some(load),
            Self::Starting(run) | Self::Loading(run) | Self::Warming(run) | Self::Ready(run) => Some(&run.load),
            Self::Backoff { load, .. } | Self::Failed { load, .. } => Some(load),
            Self::Unloaded | Self::Draining { .. } | Self::Unloading { .. } => None,
        }
    }

    /// What is loaded as soon as the unload that is under way has ended.
    pub fn next(&self) -> Option<&Load> {
        match self {
            Self::Draining { next, .. } | Self::Unloading { next, .. } => next.as_ref(),
            _ => None,
        }
    }

    /// What went wrong, as far as users should know.
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Backoff { failure, .. } | Self::Failed { failure, .. } => Some(failure.clone()),
            Self::Draining { fault, .. } => fault.clone(),
            Self::Unloading { worker: Remains::Unreaped, .. } => Some(unreaped()),
            _ => None,
        }
    }

    fn on_rest(&self, event: Event) -> Transition {
        match event {
            Event::Load(load) | Event::Reload(load) => Ok((Self::Pending(load), vec![Action::RequestSlot])),
            Event::Unload(Cause::Asked) => Ok((Self::Unloaded, vec![])),
            other => self.reject(other),
        }
    }

    fn on_pending(&self, load: Load, event: Event) -> Transition {
        match event {
            Event::Load(_) => self.stay(),
            Event::SlotGranted if load.remote => Ok((Self::Downloading(load), vec![Action::Download])),
            Event::SlotGranted => Ok((Self::Starting(Run::new(load)), vec![Action::Spawn])),
            Event::Unload(Cause::Asked) => Ok((Self::Unloaded, vec![Action::ReleaseSlot, cancelled(load)])),
            Event::Reload(next) => Ok((Self::Pending(next), vec![cancelled(load)])),
            Event::Fault(failure) | Event::LoadExpired(failure) => {
                Ok(give_up(load, failure, vec![Action::ReleaseSlot]))
            }
            other => self.reject(other),
        }
    }

    fn on_downloading(&self, load: Load, event: Event) -> Transition {
        let stop = || vec![Action::StopDownload, Action::ReleaseSlot];
        match event {
            Event::Load(_) => self.stay(),
            Event::Downloaded => Ok((Self::Starting(Run::new(load)), vec![Action::Spawn])),
            Event::Unload(Cause::Asked) => Ok((Self::Unloaded, with(stop(), cancelled(load)))),
            Event::Reload(next) => {
                let actions = with(with(stop(), cancelled(load)), Action::RequestSlot);
                Ok((Self::Pending(next), actions))
            }
            Event::Fault(failure) | Event::LoadExpired(failure) => Ok(give_up(load, failure, stop())),
            other => self.reject(other),
        }
    }

    fn on_load(&self, run: Run, event: Event) -> Transition {
        let condemned = run.condemned.is_some();
        match event {
            Event::Load(_) => self.stay(),
            Event::Inspected if !condemned && self.stage() == Stage::Starting => {
                Ok((Self::Loading(run), vec![Action::BuildEngine]))
            }
            Event::EngineBuilt if !condemned && self.stage() == Stage::Loading => Ok((Self::Warming(run), vec![])),
            Event::Warmed if !condemned && self.stage() == Stage::Warming => {
                let finish = Action::Finish(run.load.id.clone(), LoadOutcome::Succeeded);
                Ok((Self::Ready(run), vec![Action::ReleaseSlot, Action::Admit, finish]))
            }
            Event::Fault(_) | Event::LoadExpired(_) if condemned => self.stay(),
            Event::Fault(failure) | Event::LoadExpired(failure) => {
                Ok((self.with_run(run.condemn(failure)), vec![Action::Kill]))
            }
            Event::Exited { failure, .. } => {
                Ok(give_up(run.load, run.condemned.unwrap_or(failure), vec![Action::ReleaseSlot]))
            }
            Event::Unreaped => {
                let failure = run.condemned.unwrap_or_else(unreaped);
                let finish = Action::Finish(run.load.id, LoadOutcome::Failed(failure));
                let state = Self::Unloading { worker: Remains::Unreaped, next: None };
                Ok((state, vec![Action::ReleaseSlot, finish]))
            }
            Event::Unload(Cause::Asked) => Ok(Self::abandon(run, None)),
            Event::Reload(next) => Ok(Self::abandon(run, Some(next))),
            other => self.reject(other),
        }
    }

    fn on_ready(&self, run: Run, event: Event) -> Transition {
        match event {
            Event::Load(_) => self.stay(),
            Event::Unload(_) => Ok((Self::Draining { fault: run.condemned, next: None }, vec![Action::Drain])),
            Event::Reload(next) => {
                Ok((Self::Draining { fault: run.condemned, next: Some(next) }, vec![Action::Drain]))
            }
            Event::Fault(_) if run.condemned.is_some() => self.stay(),
            Event::Fault(failure) => {
                let actions = vec![Action::CutOff(failure.clone()), Action::Kill];
                Ok((Self::Ready(run.condemn(failure)), actions))
            }
            Event::Exited { failure, restart } => {
                let failure = run.condemned.unwrap_or(failure);
                let cut_off = Action::CutOff(failure.clone());
                if run.load.policy.retries(&failure, run.load.attempt) {
                    let retry = Action::ScheduleRetry(run.load.attempt);
                    let load = Load { id: restart, ..run.load };
                    Ok((Self::Backoff { load, failure }, vec![cut_off, retry]))
                } else {
                    Ok((Self::Failed { load: run.load, failure }, vec![cut_off]))
                }
            }
            Event::Unreaped => {
                let failure = run.condemned.unwrap_or_else(unreaped);
                Ok((Self::Unloading { worker: Remains::Unreaped, next: None }, vec![Action::CutOff(failure)]))
            }
            Event::Stable => {
                let load = Load { attempt: 1, ..run.load };
                Ok((Self::Ready(Run { load, ..run }), vec![]))
            }
            other => self.reject(other),
        }
    }

    fn on_draining(&self, fault: Option<Failure>, next: Option<Load>, event: Event) -> Transition {
        match event {
            Event::Drained | Event::DrainExpired => {
                let state = Self::Unloading { worker: Remains::Stopping, next };
                Ok((state, vec![Action::CutOff(unloaded()), Action::Stop]))
            }
            Event::Exited { failure, .. } => {
                let actions = vec![Action::CutOff(fault.unwrap_or(failure)), Action::Verify];
                Ok((Self::Unloading { worker: Remains::Gone, next }, actions))
            }
            Event::Fault(_) if fault.is_some() => self.stay(),
            Event::Fault(failure) => {
                let actions = vec![Action::CutOff(failure.clone()), Action::Kill];
                Ok((Self::Draining { fault: Some(failure), next }, actions))
            }
            Event::Unreaped => {
                let failure = fault.unwrap_or_else(unreaped);
                Ok((Self::Unloading { worker: Remains::Unreaped, next }, vec![Action::CutOff(failure)]))
            }
            other => {
                let (next, actions) = self.remember(next, other)?;
                Ok((Self::Draining { fault, next }, actions))
            }
        }
    }

    fn on_unloading(&self, worker: Remains, next: Option<Load>, event: Event) -> Transition {
        match event {
            Event::Exited { .. } if worker != Remains::Gone => {
                Ok((Self::Unloading { worker: Remains::Gone, next }, vec![Action::Verify]))
            }
            Event::Verified if worker == Remains::Gone => {
                Ok((Self::Unloaded, next.map(Action::Resume).into_iter().collect()))
            }
            Event::Unreaped if worker == Remains::Stopping => {
                Ok((Self::Unloading { worker: Remains::Unreaped, next }, vec![]))
            }
            Event::Fault(_) => self.stay(),
            other => {
                let (next, actions) = self.remember(next, other)?;
                Ok((Self::Unloading { worker, next }, actions))
            }
        }
    }

    fn on_backoff(&self, load: Load, failure: Failure, event: Event) -> Transition {
        match event {
            Event::Load(_) => self.stay(),
            Event::RetryDue => {
                let load = Load { attempt: load.attempt + 1, ..load };
                Ok((Self::Pending(load), vec![Action::RequestSlot]))
            }
            Event::Unload(Cause::Asked) => Ok((Self::Unloaded, vec![cancelled(load)])),
            Event::Reload(next) => Ok((Self::Pending(next), vec![cancelled(load), Action::RequestSlot])),
            Event::LoadExpired(expired) => {
                let message = format!("{}; the last attempt failed: {}", expired.message, failure.message);
                Ok(fail(load, Failure { message, ..expired }, vec![]))
            }
            other => self.reject(other),
        }
    }

    /// What an unload that is under way makes of a wish for what comes after it.
    fn remember(&self, next: Option<Load>, event: Event) -> Result<(Option<Load>, Vec<Action>), Rejected> {
        match (event, next) {
            (Event::Load(load), None) | (Event::Reload(load), None) => Ok((Some(load), vec![])),
            (Event::Load(_), Some(next)) => Ok((Some(next), vec![])),
            (Event::Reload(load), Some(next)) => Ok((Some(load), vec![cancelled(next)])),
            (Event::Unload(Cause::Asked), next) => Ok((None, next.map(cancelled).into_iter().collect())),
            (Event::LoadExpired(failure), Some(next)) => {
                Ok((None, vec![Action::Finish(next.id, LoadOutcome::Failed(failure))]))
            }
            (other, _) => Err(Rejected { stage: self.stage(), event: other }),
        }
    }

    /// A load that is under way ends without a result; a load cannot be drained.
    fn abandon(run: Run, next: Option<Load>) -> (Self, Vec<Action>) {
        let actions = vec![Action::ReleaseSlot, Action::Kill, cancelled(run.load)];
        (Self::Unloading { worker: Remains::Stopping, next }, actions)
    }

    fn with_run(&self, run: Run) -> Self {
        match self {
            Self::Starting(_) => Self::Starting(run),
            Self::Loading(_) => Self::Loading(run),
            _ => Self::Warming(run),
        }
    }

    fn stay(&self) -> Transition {
        Ok((self.clone(), vec![]))
    }

    fn reject(&self, event: Event) -> Transition {
        Err(Rejected { stage: self.stage(), event })
    }
}

// === impl Load ===

impl Load {
    /// The first attempt of a new load.
    pub fn first(policy: RestartPolicy) -> Self {
        Self { id: LoadId::fresh(), attempt: 1, policy, remote: false }
    }
}

// === impl Run ===

impl Run {
    fn new(load: Load) -> Self {
        Self { load, condemned: None }
    }

    fn condemn(self, failure: Failure) -> Self {
        Self { condemned: Some(failure), ..self }
    }
}

/// An attempt has failed and no worker lives: try again if the policy says so.
fn give_up(load: Load, failure: Failure, mut actions: Vec<Action>) -> (State, Vec<Action>) {
    if load.policy.retries(&failure, load.attempt) {
        actions.push(Action::ScheduleRetry(load.attempt));
        (State::Backoff { load, failure }, actions)
    } else {
        fail(load, failure, actions)
    }
}

fn fail(load: Load, failure: Failure, actions: Vec<Action>) -> (State, Vec<Action>) {
    let finish = Action::Finish(load.id.clone(), LoadOutcome::Failed(failure.clone()));
    (State::Failed { load, failure }, with(actions, finish))
}

fn cancelled(load: Load) -> Action {
    Action::Finish(load.id, LoadOutcome::Cancelled)
}

fn with(mut actions: Vec<Action>, action: Action) -> Vec<Action> {
    actions.push(action);
    actions
}

fn unloaded() -> Failure {
    Failure::new(Reason::ModelUnloaded, "the model was unloaded before the request ended; load it and ask again")
}

fn unreaped() -> Failure {
    Failure::new(
        Reason::Unreaped,
        "the worker was killed but the system keeps its process, most likely in a device or disk call; its \
         memory stays reserved until it goes",
    )
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
