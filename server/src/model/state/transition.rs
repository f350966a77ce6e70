//! What happens to a model, where it leads, and what is to be done then.

mod unloading;

use super::{HostedLoad, Load, State, StateKind, unreaped};
use crate::model::{Failure, LoadId, LoadOutcome};

/// What happens to a model.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    test,
    derive(strum::EnumDiscriminants),
    strum_discriminants(
        name(EventKind),
        doc = "Events without their data.",
        derive(Hash, strum::VariantArray)
    )
)]
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
#[cfg_attr(test, derive(strum::VariantArray))]
pub enum Cause {
    /// Somebody asked for it, or the server is shutting down.
    Requested,
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
    /// Have the worker build the engine.
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
    StartLoad(Load),
}

/// An event that means nothing in the state that it met. The state is unchanged.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{event:?} means nothing to a model that is {kind:?}")]
pub struct Rejected {
    /// The state that the event met.
    pub kind: StateKind,
    /// The event.
    pub event: Event,
}

type Transition = Result<(State, Vec<Action>), Rejected>;

impl State {
    /// The state that `event` leads to, and what is to be done on the way.
    ///
    /// # Errors
    ///
    /// When `event` means nothing here: it comes too late, or from a worker that is gone.
    pub fn on(&self, event: Event) -> Transition {
        match self.clone() {
            Self::Unloaded | Self::Failed { .. } => self.on_idle(event),
            Self::Pending(load) => self.on_pending(load, event),
            Self::Downloading(load) => self.on_downloading(load, event),
            Self::Starting(run) | Self::Loading(run) | Self::Warming(run) => {
                self.on_load(run, event)
            }
            Self::Ready(run) => self.on_ready(run, event),
            Self::Draining { fault, next } => self.on_draining(fault, next, event),
            Self::Unloading {
                worker,
                fault,
                then,
            } => self.on_unloading(worker, fault, then, event),
            Self::Backoff { load, failure } => self.on_backoff(load, failure, event),
        }
    }

    fn on_idle(&self, event: Event) -> Transition {
        match event {
            Event::Load(load) | Event::Reload(load) => {
                Ok((Self::Pending(load), vec![Action::RequestSlot]))
            }
            Event::Unload(Cause::Requested) => Ok((Self::Unloaded, vec![])),
            other => self.reject(other),
        }
    }

    fn on_pending(&self, load: Load, event: Event) -> Transition {
        match event {
            Event::Load(_) => self.unchanged(),
            Event::SlotGranted if load.remote => {
                Ok((Self::Downloading(load), vec![Action::Download]))
            }
            Event::SlotGranted => Ok((Self::Starting(HostedLoad::new(load)), vec![Action::Spawn])),
            Event::Unload(Cause::Requested) => {
                Ok((Self::Unloaded, vec![Action::ReleaseSlot, cancelled(load)]))
            }
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
            Event::Load(_) => self.unchanged(),
            Event::Downloaded => Ok((Self::Starting(HostedLoad::new(load)), vec![Action::Spawn])),
            Event::Unload(Cause::Requested) => Ok((Self::Unloaded, with(stop(), cancelled(load)))),
            Event::Reload(next) => {
                let actions = with(with(stop(), cancelled(load)), Action::RequestSlot);
                Ok((Self::Pending(next), actions))
            }
            Event::Fault(failure) | Event::LoadExpired(failure) => {
                Ok(give_up(load, failure, stop()))
            }
            other => self.reject(other),
        }
    }

    fn on_load(&self, run: HostedLoad, event: Event) -> Transition {
        let terminating = run.terminating.is_some();
        match event {
            Event::Load(_) => self.unchanged(),
            Event::Inspected if !terminating && self.kind() == StateKind::Starting => {
                Ok((Self::Loading(run), vec![Action::BuildEngine]))
            }
            Event::EngineBuilt if !terminating && self.kind() == StateKind::Loading => {
                Ok((Self::Warming(run), vec![]))
            }
            Event::Warmed if !terminating && self.kind() == StateKind::Warming => {
                let finish = Action::Finish(run.load.id.clone(), LoadOutcome::Succeeded);
                Ok((
                    Self::Ready(run),
                    vec![Action::ReleaseSlot, Action::Admit, finish],
                ))
            }
            Event::Fault(_) | Event::LoadExpired(_) if terminating => self.unchanged(),
            Event::Fault(failure) | Event::LoadExpired(failure) => {
                Ok((self.with_run(run.terminate(failure)), vec![Action::Kill]))
            }
            Event::Exited { failure, .. } => Ok(give_up(
                run.load,
                run.terminating.unwrap_or(failure),
                vec![Action::ReleaseSlot],
            )),
            Event::Unreaped => {
                let failure = run.terminating.unwrap_or_else(unreaped);
                let outcome = LoadOutcome::Failed(failure.clone());
                let finish = Action::Finish(run.load.id.clone(), outcome);
                let actions = vec![Action::ReleaseSlot, finish];
                Ok((Self::unreaped(run.load, failure), actions))
            }
            Event::Unload(Cause::Requested) => Ok(Self::cancel_load(run, None)),
            Event::Reload(next) => Ok(Self::cancel_load(run, Some(next))),
            other => self.reject(other),
        }
    }

    fn on_ready(&self, run: HostedLoad, event: Event) -> Transition {
        match event {
            // What is being killed serves nobody any more: the load is the next one.
            Event::Load(next) if run.terminating.is_some() => Ok(Self::drain(run, Some(next))),
            Event::Load(_) => self.unchanged(),
            Event::Unload(_) => Ok(Self::drain(run, None)),
            Event::Reload(next) => Ok(Self::drain(run, Some(next))),
            Event::Fault(_) if run.terminating.is_some() => self.unchanged(),
            Event::Fault(failure) => {
                let actions = vec![Action::CutOff(failure.clone()), Action::Kill];
                Ok((Self::Ready(run.terminate(failure)), actions))
            }
            Event::Exited { failure, restart } => {
                let failure = run.terminating.unwrap_or(failure);
                let cut_off = Action::CutOff(failure.clone());
                Ok(Self::after_worker_loss(
                    run.load,
                    failure,
                    restart,
                    vec![cut_off],
                ))
            }
            Event::Unreaped => {
                let failure = run.terminating.unwrap_or_else(unreaped);
                let actions = vec![Action::CutOff(failure.clone())];
                Ok((Self::unreaped(run.load, failure), actions))
            }
            Event::Stable => {
                let load = Load {
                    attempt: 1,
                    ..run.load
                };
                Ok((Self::Ready(HostedLoad { load, ..run }), vec![]))
            }
            other => self.reject(other),
        }
    }

    /// A worker is gone, and no load is under way any more: the policy of the last one, `load`, says whether there is
    /// another, `restart`.
    fn after_worker_loss(
        load: Load,
        failure: Failure,
        restart: LoadId,
        mut actions: Vec<Action>,
    ) -> (Self, Vec<Action>) {
        if !load.policy.restarts(&failure, load.attempt) {
            return (Self::Failed { load, failure }, actions);
        }
        actions.push(Action::ScheduleRetry(load.attempt));
        let load = Load {
            id: restart,
            ..load
        };
        (Self::Backoff { load, failure }, actions)
    }

    fn on_backoff(&self, load: Load, failure: Failure, event: Event) -> Transition {
        match event {
            Event::Load(_) => self.unchanged(),
            Event::RetryDue => {
                let load = Load {
                    attempt: load.attempt + 1,
                    ..load
                };
                Ok((Self::Pending(load), vec![Action::RequestSlot]))
            }
            Event::Unload(Cause::Requested) => Ok((Self::Unloaded, vec![cancelled(load)])),
            Event::Reload(next) => Ok((
                Self::Pending(next),
                vec![cancelled(load), Action::RequestSlot],
            )),
            Event::LoadExpired(expired) => {
                let message = format!(
                    "{}; the last attempt failed: {}",
                    expired.message, failure.message
                );
                Ok(fail(load, Failure { message, ..expired }, vec![]))
            }
            other => self.reject(other),
        }
    }

    fn with_run(&self, run: HostedLoad) -> Self {
        match self {
            Self::Starting(_) => Self::Starting(run),
            Self::Loading(_) => Self::Loading(run),
            // Of the others no load with a worker is under way in any but this one.
            Self::Warming(_)
            | Self::Unloaded
            | Self::Pending(_)
            | Self::Downloading(_)
            | Self::Ready(_)
            | Self::Draining { .. }
            | Self::Unloading { .. }
            | Self::Backoff { .. }
            | Self::Failed { .. } => Self::Warming(run),
        }
    }

    fn unchanged(&self) -> Transition {
        Ok((self.clone(), vec![]))
    }

    fn reject(&self, event: Event) -> Transition {
        Err(Rejected {
            kind: self.kind(),
            event,
        })
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
