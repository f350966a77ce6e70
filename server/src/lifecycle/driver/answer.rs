//! Commands to a driver, and the answers to those who wait.

use std::time::{Duration, SystemTime};

use tokio::{sync::oneshot, time::Instant};
use tracing::{Span, info_span};

use super::{Driver, LoadClock};
use crate::{
    catalog::Entry,
    lifecycle::timers::Timer,
    model::{
        Failure, LoadId, LoadOutcome, Reason, Stage, Status,
        state::{Cause, Event, Load},
    },
};

/// What a driver is asked to do.
#[derive(Debug)]
pub(in crate::lifecycle) enum Command {
    Load(LoadCommand),
    Unload(UnloadCommand),
}

/// Load the model.
#[derive(Debug)]
pub(in crate::lifecycle) struct LoadCommand {
    pub(in crate::lifecycle) entry: Entry,
    /// Load anew although it is READY.
    pub(in crate::lifecycle) force: bool,
    pub(in crate::lifecycle) timeout: Duration,
    /// The call that asks.
    pub(in crate::lifecycle) span: Span,
    pub(in crate::lifecycle) reply: oneshot::Sender<LoadTicket>,
}

/// Unload the model.
#[derive(Debug)]
pub(in crate::lifecycle) struct UnloadCommand {
    pub(in crate::lifecycle) drain_timeout: Duration,
    pub(in crate::lifecycle) reply: oneshot::Sender<UnloadReport>,
}

/// A load that is under way or was not needed.
#[derive(Debug)]
pub struct LoadTicket {
    /// The load.
    pub load_id: LoadId,
    /// Whether the model was READY already.
    pub already_loaded: bool,
    /// Where the model stands.
    pub status: Status,
    /// How the load ends; `None` when it has. A closed channel means that the server is going down.
    pub outcome: Option<oneshot::Receiver<Result<Status, Failure>>>,
}

/// What an unload did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnloadReport {
    /// Whether there was a worker.
    pub was_loaded: bool,
    /// Host memory that the worker held just before the stop.
    pub host_bytes: u64,
    /// Device memory that came back.
    pub device_bytes: u64,
    /// How that was verified.
    pub verification: Verification,
    /// Whether the worker had to be killed.
    pub killed: bool,
}

/// How an unload was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// There was nothing to verify.
    Nothing,
    /// The worker was reaped.
    Reaped,
    /// The worker could not be reaped.
    TimedOut,
}

/// Those who wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    loads: Vec<(LoadId, oneshot::Sender<Result<Status, Failure>>)>,
    unloads: Vec<oneshot::Sender<UnloadReport>>,
}

impl Driver {
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Load(command) => self.obey_load(command),
            Command::Unload(command) => self.obey_unload(command),
        }
    }

    fn obey_load(&mut self, command: LoadCommand) {
        let stage = self.state.stage();
        let another = *self.spec != *command.entry.spec;
        let reload = (command.force && (stage == Stage::Ready || another))
            || (another && stage.is_loading());
        let spec = command.entry.spec.clone();
        let load = Load::first(spec.restart_policy());
        let id = load.id.clone();
        let event = if reload {
            Event::Reload(load)
        } else {
            Event::Load(load)
        };
        self.model.learn(|facts| {
            facts.entry = command.entry.clone();
            facts.wanted = true;
        });
        if reload {
            self.drain_timeout = self.context.limits.drain_timeout;
        }
        // A load that this one replaces is finished on the way, with its own clock.
        self.apply(event);
        let open = self
            .state
            .load()
            .or(self.state.next())
            .map(|load| load.id.clone());
        if open.as_ref() == Some(&id) {
            let began = Instant::now();
            self.spec = spec;
            self.load = LoadClock {
                began,
                began_at: SystemTime::now(),
                timeout: command.timeout,
                restart: false,
            };
            self.load_span = info_span!(parent: &command.span, "model.load", model = %self.model.id(), load = %id);
            self.timers.set(Timer::Load, began + command.timeout);
        }
        let ready = self.state.stage() == Stage::Ready;
        let load_id = open.unwrap_or(id);
        let outcome = (!ready).then(|| self.waiters.wait_for_load(load_id.clone()));
        let status = self.status.clone();
        // A caller that is gone does not end the load.
        let _ = command.reply.send(LoadTicket {
            load_id,
            already_loaded: ready,
            status,
            outcome,
        });
    }

    fn obey_unload(&mut self, command: UnloadCommand) {
        self.model.learn(|facts| facts.wanted = false);
        let deadline = Instant::now() + command.drain_timeout;
        let draining = self.state.stage() == Stage::Draining;
        self.drain_timeout = command.drain_timeout;
        self.waiters.unloads.retain(|waiter| !waiter.is_closed());
        self.waiters.unloads.push(command.reply);
        self.apply(Event::Unload(Cause::Asked));
        if draining {
            // A later unload can only shorten a drain that is under way.
            self.timers.set_earlier(Timer::Drain, deadline);
        }
        match self.state.stage() {
            Stage::Unloaded => self.answer_unloads(&UnloadReport::nothing()),
            Stage::Unloading => self.answer_unreaped(),
            _ => {}
        }
    }

    /// What the unload that ends now did.
    pub(super) fn unload_report(&self, verification: Verification) -> UnloadReport {
        let seen = self
            .observer
            .as_ref()
            .map(|observer| observer.memory())
            .unwrap_or_default();
        let held = if self.stopping.began.is_some() {
            self.stopping.held
        } else {
            seen
        };
        UnloadReport {
            was_loaded: true,
            host_bytes: held.host_bytes,
            device_bytes: held.device_bytes,
            verification,
            killed: self.stopping.killed,
        }
    }

    pub(super) fn answer_unloads(&mut self, report: &UnloadReport) {
        for waiter in self.waiters.unloads.drain(..) {
            let _ = waiter.send(*report);
        }
    }

    /// Tells those who wait for an unload that the worker does not go, if that is so.
    pub(super) fn answer_unreaped(&mut self) {
        if self
            .state
            .failure()
            .is_some_and(|failure| failure.reason == Reason::Unreaped)
        {
            let report = UnloadReport {
                host_bytes: 0,
                ..self.unload_report(Verification::TimedOut)
            };
            self.answer_unloads(&report);
        }
    }

    pub(super) fn answer_loads(&mut self, load_id: &LoadId, outcome: &LoadOutcome) {
        let answer = match outcome {
            LoadOutcome::Succeeded => Ok(self.status.clone()),
            LoadOutcome::Failed(failure) => Err(failure.clone()),
            LoadOutcome::Cancelled => Err(Failure::new(
                Reason::LoadCancelled,
                "an unload or another load ended this load",
            )),
        };
        let (ended, waiting) = self
            .waiters
            .loads
            .drain(..)
            .partition(|(id, _)| id == load_id);
        self.waiters.loads = waiting;
        for (_, waiter) in ended {
            let _ = waiter.send(answer.clone());
        }
    }
}

// === impl Waiters ===

impl Waiters {
    fn wait_for_load(&mut self, load_id: LoadId) -> oneshot::Receiver<Result<Status, Failure>> {
        self.loads.retain(|(_, waiter)| !waiter.is_closed());
        let (sender, receiver) = oneshot::channel();
        self.loads.push((load_id, sender));
        receiver
    }
}

// === impl UnloadReport ===

impl UnloadReport {
    fn nothing() -> Self {
        Self {
            was_loaded: false,
            host_bytes: 0,
            device_bytes: 0,
            verification: Verification::Nothing,
            killed: false,
        }
    }
}
