//! The table of transitions.

use super::{
    Action, Afterwards, Cause, Event, HostedLoad, Load, Rejected, Remains, State, unreaped,
};
use crate::model::{Failure, LoadId, LoadOutcome, Reason, Stage};

type Transition = Result<(State, Vec<Action>), Rejected>;

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

    fn on_rest(&self, event: Event) -> Transition {
        match event {
            Event::Load(load) | Event::Reload(load) => {
                Ok((Self::Pending(load), vec![Action::RequestSlot]))
            }
            Event::Unload(Cause::Asked) => Ok((Self::Unloaded, vec![])),
            other => self.reject(other),
        }
    }

    fn on_pending(&self, load: Load, event: Event) -> Transition {
        match event {
            Event::Load(_) => self.stay(),
            Event::SlotGranted if load.remote => {
                Ok((Self::Downloading(load), vec![Action::Download]))
            }
            Event::SlotGranted => Ok((Self::Starting(HostedLoad::new(load)), vec![Action::Spawn])),
            Event::Unload(Cause::Asked) => {
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
            Event::Load(_) => self.stay(),
            Event::Downloaded => Ok((Self::Starting(HostedLoad::new(load)), vec![Action::Spawn])),
            Event::Unload(Cause::Asked) => Ok((Self::Unloaded, with(stop(), cancelled(load)))),
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
            Event::Load(_) => self.stay(),
            Event::Inspected if !terminating && self.stage() == Stage::Starting => {
                Ok((Self::Loading(run), vec![Action::BuildEngine]))
            }
            Event::EngineBuilt if !terminating && self.stage() == Stage::Loading => {
                Ok((Self::Warming(run), vec![]))
            }
            Event::Warmed if !terminating && self.stage() == Stage::Warming => {
                let finish = Action::Finish(run.load.id.clone(), LoadOutcome::Succeeded);
                Ok((
                    Self::Ready(run),
                    vec![Action::ReleaseSlot, Action::Admit, finish],
                ))
            }
            Event::Fault(_) | Event::LoadExpired(_) if terminating => self.stay(),
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
                Ok((Self::lost_unreaped(run.load, failure), actions))
            }
            Event::Unload(Cause::Asked) => Ok(Self::abandon(run, None)),
            Event::Reload(next) => Ok(Self::abandon(run, Some(next))),
            other => self.reject(other),
        }
    }

    fn on_ready(&self, run: HostedLoad, event: Event) -> Transition {
        match event {
            // What is being killed serves nobody any more: the load is the next one.
            Event::Load(next) if run.terminating.is_some() => Ok(Self::drain(run, Some(next))),
            Event::Load(_) => self.stay(),
            Event::Unload(_) => Ok(Self::drain(run, None)),
            Event::Reload(next) => Ok(Self::drain(run, Some(next))),
            Event::Fault(_) if run.terminating.is_some() => self.stay(),
            Event::Fault(failure) => {
                let actions = vec![Action::CutOff(failure.clone()), Action::Kill];
                Ok((Self::Ready(run.terminate(failure)), actions))
            }
            Event::Exited { failure, restart } => {
                let failure = run.terminating.unwrap_or(failure);
                let cut_off = Action::CutOff(failure.clone());
                Ok(Self::lose(run.load, failure, restart, vec![cut_off]))
            }
            Event::Unreaped => {
                let failure = run.terminating.unwrap_or_else(unreaped);
                let actions = vec![Action::CutOff(failure.clone())];
                Ok((Self::lost_unreaped(run.load, failure), actions))
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

    /// A model that was READY begins to drain.
    fn drain(run: HostedLoad, next: Option<Load>) -> (Self, Vec<Action>) {
        let fault = run.terminating;
        (Self::Draining { fault, next }, vec![Action::Drain])
    }

    /// A worker is gone, and no load is under way any more: the policy of the last one, `load`, says whether there is
    /// another, `restart`.
    fn lose(
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

    /// The worker of `load` was killed for `failure` and cannot be reaped: what is reserved for it stays reserved.
    fn lost_unreaped(load: Load, failure: Failure) -> Self {
        Self::Unloading {
            worker: Remains::Unreaped,
            fault: Some(failure.clone()),
            then: Afterwards::Lost { load, failure },
        }
    }

    fn on_draining(&self, fault: Option<Failure>, next: Option<Load>, event: Event) -> Transition {
        match event {
            Event::Drained | Event::DrainExpired => {
                let cut = if next.is_some() {
                    reloaded()
                } else {
                    unloaded()
                };
                let state = Self::unloading(Remains::Stopping, fault, next);
                Ok((state, vec![Action::CutOff(cut), Action::Stop]))
            }
            Event::Exited { failure, .. } => {
                let failure = fault.unwrap_or(failure);
                let actions = vec![Action::CutOff(failure.clone()), Action::Verify];
                Ok((Self::unloading(Remains::Gone, Some(failure), next), actions))
            }
            Event::Fault(_) if fault.is_some() => self.stay(),
            Event::Fault(failure) => {
                let actions = vec![Action::CutOff(failure.clone()), Action::Kill];
                Ok((
                    Self::Draining {
                        fault: Some(failure),
                        next,
                    },
                    actions,
                ))
            }
            Event::Unreaped => {
                let cut_off = Action::CutOff(fault.clone().unwrap_or_else(unreaped));
                let state = Self::unloading(Remains::Unreaped, fault, next);
                Ok((state, vec![cut_off]))
            }
            other => {
                let (next, actions) = self.remember(next, other)?;
                Ok((Self::Draining { fault, next }, actions))
            }
        }
    }

    fn on_unloading(
        &self,
        worker: Remains,
        fault: Option<Failure>,
        then: Afterwards,
        event: Event,
    ) -> Transition {
        match event {
            Event::Exited { .. } if worker != Remains::Gone => Ok((
                Self::unloading(Remains::Gone, fault, then),
                vec![Action::Verify],
            )),
            Event::Verified { restart } if worker == Remains::Gone => Ok(match then {
                Afterwards::Unloaded => (Self::Unloaded, vec![]),
                Afterwards::Next(load) => (Self::Unloaded, vec![Action::Resume(load)]),
                Afterwards::Lost { load, failure } => Self::lose(load, failure, restart, vec![]),
            }),
            Event::Unreaped if worker == Remains::Stopping => {
                Ok((Self::unloading(Remains::Unreaped, fault, then), vec![]))
            }
            Event::Fault(_) => self.stay(),
            other => {
                let (next, actions) = self.remember(then.next().cloned(), other)?;
                let state = Self::unloading(worker, fault, next);
                Ok((state, actions))
            }
        }
    }

    fn on_backoff(&self, load: Load, failure: Failure, event: Event) -> Transition {
        match event {
            Event::Load(_) => self.stay(),
            Event::RetryDue => {
                let load = Load {
                    attempt: load.attempt + 1,
                    ..load
                };
                Ok((Self::Pending(load), vec![Action::RequestSlot]))
            }
            Event::Unload(Cause::Asked) => Ok((Self::Unloaded, vec![cancelled(load)])),
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

    /// What an unload that is under way makes of a wish for what comes after it.
    fn remember(
        &self,
        next: Option<Load>,
        event: Event,
    ) -> Result<(Option<Load>, Vec<Action>), Rejected> {
        match (event, next) {
            (Event::Load(load), None) | (Event::Reload(load), None) => Ok((Some(load), vec![])),
            (Event::Load(_), Some(next)) => Ok((Some(next), vec![])),
            (Event::Reload(load), Some(next)) => Ok((Some(load), vec![cancelled(next)])),
            (Event::Unload(Cause::Asked), next) => {
                Ok((None, next.map(cancelled).into_iter().collect()))
            }
            (Event::LoadExpired(failure), Some(next)) => Ok((
                None,
                vec![Action::Finish(next.id, LoadOutcome::Failed(failure))],
            )),
            (other, _) => Err(Rejected {
                stage: self.stage(),
                event: other,
            }),
        }
    }

    /// A load that is under way ends without a result; a load cannot be drained.
    fn abandon(run: HostedLoad, next: Option<Load>) -> (Self, Vec<Action>) {
        let actions = vec![Action::ReleaseSlot, Action::Kill, cancelled(run.load)];
        (Self::unloading(Remains::Stopping, None, next), actions)
    }

    fn unloading(worker: Remains, fault: Option<Failure>, then: impl Into<Afterwards>) -> Self {
        Self::Unloading {
            worker,
            fault,
            then: then.into(),
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

    fn stay(&self) -> Transition {
        Ok((self.clone(), vec![]))
    }

    fn reject(&self, event: Event) -> Transition {
        Err(Rejected {
            stage: self.stage(),
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

pub(super) fn unloaded() -> Failure {
    Failure::new(
        Reason::ModelUnloaded,
        "the model was unloaded before the request ended; load it and ask again",
    )
}

pub(super) fn reloaded() -> Failure {
    Failure::new(
        Reason::ModelUnloaded,
        "the model is loaded anew, and the request did not end in the time that it had; ask again",
    )
}
