//! The transitions of a model that is unloaded.

use super::{Action, Cause, Event, Rejected, Transition, cancelled};
use crate::model::{
    Failure, LoadOutcome,
    state::{AfterUnload, HostedLoad, Load, State, UnloadingWorker, reloaded, unloaded, unreaped},
};

impl State {
    /// A model that was READY begins to drain.
    pub(super) fn drain(run: HostedLoad, next: Option<Load>) -> (Self, Vec<Action>) {
        let fault = run.terminating;
        (Self::Draining { fault, next }, vec![Action::Drain])
    }

    /// The worker of `load` was killed for `failure` and cannot be reaped: what is reserved for it stays reserved.
    pub(super) fn unreaped(load: Load, failure: Failure) -> Self {
        Self::Unloading {
            worker: UnloadingWorker::Unreaped,
            fault: Some(failure.clone()),
            then: AfterUnload::WorkerLost { load, failure },
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
                let state = Self::unloading(UnloadingWorker::Stopping, fault, next);
                Ok((state, vec![Action::CutOff(cut), Action::Stop]))
            }
            Event::Exited { failure, .. } => {
                let failure = fault.unwrap_or(failure);
                let actions = vec![Action::CutOff(failure.clone()), Action::Verify];
                Ok((
                    Self::unloading(UnloadingWorker::Gone, Some(failure), next),
                    actions,
                ))
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
                let state = Self::unloading(UnloadingWorker::Unreaped, fault, next);
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
        worker: UnloadingWorker,
        fault: Option<Failure>,
        then: AfterUnload,
        event: Event,
    ) -> Transition {
        match event {
            Event::Exited { .. } if worker != UnloadingWorker::Gone => Ok((
                Self::unloading(UnloadingWorker::Gone, fault, then),
                vec![Action::Verify],
            )),
            Event::Verified { restart } if worker == UnloadingWorker::Gone => Ok(match then {
                AfterUnload::Unloaded => (Self::Unloaded, vec![]),
                AfterUnload::Next(load) => (Self::Unloaded, vec![Action::StartLoad(load)]),
                AfterUnload::WorkerLost { load, failure } => {
                    Self::after_worker_loss(load, failure, restart, vec![])
                }
            }),
            Event::Unreaped if worker == UnloadingWorker::Stopping => Ok((
                Self::unloading(UnloadingWorker::Unreaped, fault, then),
                vec![],
            )),
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
            (Event::Unload(Cause::Requested), next) => {
                Ok((None, next.map(cancelled).into_iter().collect()))
            }
            (Event::LoadExpired(failure), Some(next)) => Ok((
                None,
                vec![Action::Finish(next.id, LoadOutcome::Failed(failure))],
            )),
            (other, _) => Err(Rejected {
                kind: self.kind(),
                event: other,
            }),
        }
    }

    /// A load that is under way ends without a result; a load cannot be drained.
    pub(super) fn cancel_load(run: HostedLoad, next: Option<Load>) -> (Self, Vec<Action>) {
        let actions = vec![Action::ReleaseSlot, Action::Kill, cancelled(run.load)];
        (
            Self::unloading(UnloadingWorker::Stopping, None, next),
            actions,
        )
    }

    fn unloading(
        worker: UnloadingWorker,
        fault: Option<Failure>,
        then: impl Into<AfterUnload>,
    ) -> Self {
        Self::Unloading {
            worker,
            fault,
            then: then.into(),
        }
    }
}
