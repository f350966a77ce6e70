//! What becomes of a model whose driver panicked.
//!
//! The panic may have left anything half done, so nothing of what the driver was about is gone on with. What has to
//! outlive it does: the worker until it is reaped, its reservation until then, and the answers that others wait for. The
//! model is FAILED then, with the reason INTERNAL, and the next load starts afresh.

use std::panic::{AssertUnwindSafe, resume_unwind};

use futures::FutureExt;
use tokio::time::Instant;

use super::{
    ModelDriver,
    timers::{Timer, Timers},
};
use crate::{
    lifecycle::command::{UnloadReport, Verification},
    model::{
        Failure, LoadId, StateKind,
        state::{Event, Load, State},
    },
    supervisor::panic_message,
};

/// Panics between two loads that a driver is let go on after. One that panics all the time is a fault of the server.
const MAX_PANICS: u32 = 3;

impl ModelDriver {
    /// Drives until the fleet ends all drivers, or its model is deleted.
    pub(super) async fn drive(mut self) {
        loop {
            let driven = AssertUnwindSafe(self.run_loop()).catch_unwind().await;
            let Err(panic) = driven else { return };
            self.panics += 1;
            if self.panics > MAX_PANICS {
                resume_unwind(panic);
            }
            let model = self.model.id();
            tracing::error!(%model, panic = panic_message(&*panic), "a model's driver panicked; the model fails");
            self.recover();
        }
    }

    /// Leaves what the driver was about, and fails the model once no worker lives.
    pub(super) fn recover(&mut self) {
        let failure = Failure::of_panicked_task();
        self.resources.interrupt();
        self.timers = Timers::default();
        let (state, load) = self.interrupted();
        self.published.edit().next_load = None;
        let ended = (!state.is_unloading()).then_some(&load.id);
        self.give_up_loads(ended, &failure);
        let worker = self.resources.worker();
        if worker.is_some_and(|worker| worker.task.is_some()) {
            self.terminate(state, load, failure);
        } else {
            self.model.gate.close();
            let reserved = worker.is_some_and(|worker| worker.memory.reservation().is_some());
            let report = if reserved {
                self.unload_report(Verification::Reaped, 0)
            } else {
                UnloadReport::nothing()
            };
            self.answer_unloads(&report);
            self.state = State::Pending(load);
            self.apply(Event::Fault(failure));
        }
    }

    /// The state that a panic is dealt with in, and the load that it ends.
    fn interrupted(&self) -> (StateKind, Load) {
        let status = self.published.upcoming();
        let load = |id: &LoadId, attempt| Load {
            id: id.clone(),
            attempt,
            ..Load::first(self.model.facts().entry.spec.restart_policy())
        };
        let unloads = status.state.is_unloading();
        match (&status.load_id, &status.next_load) {
            // What was asked for goes on without the rest.
            _ if self.waiters.is_unload_awaited() => {
                let id = status.load_id.clone().unwrap_or_else(LoadId::random);
                (StateKind::Unloading, load(&id, status.attempt.max(1)))
            }
            // Nobody wants an unload but for the load that was to follow, and that one fails.
            (_, Some(next)) if unloads => (StateKind::Starting, load(next, 1)),
            (known, _) => {
                let id = known.clone().unwrap_or_else(LoadId::random);
                (status.state, load(&id, status.attempt.max(1)))
            }
        }
    }

    /// Kills the worker of a model that watchers know as `state`: a transition may have been begun and not published.
    fn terminate(&mut self, state: StateKind, load: Load, failure: Failure) {
        self.cut_off_requests(&failure, state == StateKind::Ready);
        if let Some(worker) = self.resources.worker_mut() {
            worker.kill();
            let stopping = &mut worker.stopping;
            if let (None, Some(monitor)) = (stopping.began, &worker.monitor) {
                stopping.held = monitor.memory();
            }
            stopping.began.get_or_insert_with(Instant::now);
        }
        let limit = self.context.limits.kill_timeout;
        self.timers.set(Timer::Kill, Instant::now() + limit);
        self.state = State::terminating(state, load, failure);
    }
}
