//! The transitions of a model that is unloaded.

use super::{Action, Cause, Event, Rejected, Transition, cancelled};
use crate::model::{
    Failure, LoadOutcome,
    state::{Afterwards, HostedLoad, Load, Remains, State, reloaded, unloaded, unreaped},
};

impl State {
    /// A model that was READY begins to drain.
    pub(super) fn drain(run: HostedLoad, next: Option<Load>) -> (Self, Vec<Action>) {
        let fault = run.terminating;
        (Self::Draining { fault, next }, vec![Action::Drain])
    }

    /// The worker of `load` was killed for `failure` and cannot be reaped: what is reserved for it stays reserved.
    pub(super) fn lost_unreaped(load: Load, failure: Failure) -> Self {
        Self::Unloading {
            worker: Remains::Unreaped,
            fault: Some(failure.clone()),
            then: Afterwards::Lost { load, failure },
        }
    }

    pub(super) fn on_draining(
        &self,
        fault: Option<Failure>,
        next: Option<Load>,
        event: Event,
    ) -> Transition {
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
            Event::Fault(_) if fault.is_some() => self.unchanged(),
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

    pub(super) fn on_unloading(
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
            Event::Fault(_) => self.unchanged(),
            other => {
                let (next, actions) = self.remember(then.next().cloned(), other)?;
                let state = Self::unloading(worker, fault, next);
                Ok((state, actions))
            }
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
    pub(super) fn cancel_load(run: HostedLoad, next: Option<Load>) -> (Self, Vec<Action>) {
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
}
