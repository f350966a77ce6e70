//! Commands to a driver, and the answers to those who wait.

use tokio::{sync::oneshot, time::Instant};
use tracing::{Span, info_span};

use super::{ModelDriver, resources::DriverResources, spec::is_remote, timers::Timer};
use crate::{
    catalog::{DeferredWrite, LoadAttempt},
    lifecycle::command::{
        DriverCommand, LoadCommand, LoadInstruction, LoadTicket, Replacement, UnloadCommand,
        UnloadReport, Verification,
    },
    model::{
        Failure, LoadId, LoadOutcome, Reason, Spec, StateKind,
        state::{Cause, Event, Load},
    },
};

impl ModelDriver {
    pub(super) fn handle_command(&mut self, command: DriverCommand) {
        match command {
            DriverCommand::Load(command) => self.handle_load(*command),
            DriverCommand::Unload(command) => self.handle_unload(command),
            // Whoever wanted the room no longer waits for it.
            DriverCommand::Evict(command) if command.reply.is_closed() => {}
            DriverCommand::Evict(command) => {
                let gone = self.evict(command.cause, command.message, command.idle);
                let _ = command.reply.send(gone);
            }
            DriverCommand::EntryChanged => self.adapt_to_entry(),
            DriverCommand::Terminate(failure) => self.fail(failure),
            DriverCommand::End(reply) => {
                let ended = !self.state.kind().is_active();
                // Who does not hear of it leaves the model tracked.
                if reply.send(ended).is_ok() && ended {
                    self.resources = DriverResources::Ended;
                }
            }
        }
    }

    fn handle_load(&mut self, command: LoadCommand) {
        let LoadCommand {
            spec,
            instruction,
            span,
            reply,
        } = command;
        self.panics = 0;
        let state = self.state.kind();
        let found = instruction.replaces.as_ref();
        let reload = found.is_some_and(|found| self.is_reload(found, &spec));
        let load = first_attempt(&spec, &instruction);
        let id = load.id.clone();
        let event = if reload {
            Event::Reload(load)
        } else {
            Event::Load(load)
        };
        // Whoever joins a load takes no rights from it.
        let joins = state.is_loading() && !reload;
        self.load.may_evict = instruction.may_evict || (self.load.may_evict && joins);
        self.unsuspend();
        self.adapt_to_entry();
        if reload || self.state.is_terminating() {
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
            self.load.asked = spec;
            self.load.inspected = found
                .filter(|_| reload)
                .and_then(|found| found.inspected.clone());
            self.begin_instructed(&id, &instruction, &span);
        }
        if let Some(attempt) = instruction.crashed.filter(|_| state == StateKind::Unloaded) {
            self.fail_crashed_attempt(attempt);
        }
        // A caller that is gone does not end the load.
        let _ = reply.send(self.load_ticket(open.unwrap_or(id)));
    }

    /// Whether a load that found `replacement` begins anew from `spec`.
    fn is_reload(&self, replacement: &Replacement, spec: &Spec) -> bool {
        match self.state.kind() {
            StateKind::Ready => !self.was_replaced(replacement, spec),
            state if state.is_loading() => !self.load.spec.builds_the_same_as(spec),
            // A load of something else has not begun yet.
            _ => self.state.next().is_some() && !self.load.asked.builds_the_same_as(spec),
        }
    }

    /// Whether the worker that serves is newer than the one of `replacement`, and built from `spec`: equal reloads that come
    /// together make one.
    fn was_replaced(&self, replacement: &Replacement, spec: &Spec) -> bool {
        let facts = self.model.facts();
        let built = facts.built.as_ref();
        let is_as_asked = built.is_some_and(|built| built.builds_the_same_as(spec));
        let is_new = self.state.load().map(|load| &load.id) != replacement.load.as_ref();
        replacement.model == *self.model.id() && is_new && is_as_asked
    }

    /// What the caller of a load gets: where the model stands, and how it hears of the end.
    fn load_ticket(&mut self, load_id: LoadId) -> LoadTicket {
        let ready = self.state.kind() == StateKind::Ready && !self.state.is_terminating();
        let over = ready || !self.state.kind().is_active();
        let outcome = (!over).then(|| {
            let outcome = self.waiters.wait_for_load(load_id.clone());
            self.model.reply(outcome)
        });
        LoadTicket {
            load_id,
            already_loaded: ready,
            status: self.published.upcoming().clone(),
            outcome,
        }
    }

    fn begin_instructed(&mut self, id: &LoadId, instruction: &LoadInstruction, span: &Span) {
        if instruction.clear_fatal_prompt {
            self.load.prompts.clear_fatal_prompt();
            self.keep_prompts();
        }
        let span = info_span!(parent: span, "model.load", model = %self.model.id(), load = %id);
        self.load.begin(instruction.timeout, span);
        self.timers
            .set(Timer::Load, self.load.began + instruction.timeout);
    }

    /// The server died in `attempt`: it is over, and the policy says whether there is another.
    fn fail_crashed_attempt(&mut self, attempt: LoadAttempt) {
        let message = format!(
            "the server ended during attempt {} of a load; if the model takes the whole container down, give it a \
             memory_hint or a smaller context_length",
            attempt.number
        );
        self.apply(Event::Fault(Failure::new(Reason::WorkerDied, message)));
        let id = self.model.id();
        self.context
            .catalog
            .defer_write(id, DeferredWrite::AttemptEnded(attempt));
    }

    fn handle_unload(&mut self, command: UnloadCommand) {
        if command.only_if_unneeded && (self.is_held() || self.model.facts().desired) {
            let _ = command.reply.send(UnloadReport::nothing());
            return;
        }
        if command.clear_desired {
            if self.unsuspend() {
                // No transition says that it is not suspended any more.
                self.publish_progress();
            }
            // Readiness does not wait for what nobody wants any more.
            self.context.record_first_outcome(self.model.id());
        }
        let deadline = Instant::now() + command.drain_timeout;
        let draining = self.state.kind() == StateKind::Draining;
        self.drain_timeout = command.drain_timeout;
        self.waiters.unloads.retain(|waiter| !waiter.is_closed());
        self.waiters.unloads.push(command.reply);
        self.apply(Event::Unload(Cause::Requested));
        if draining {
            // A later unload can only shorten a drain that is under way.
            self.timers.set_earlier(Timer::Drain, deadline);
        }
        match self.state.kind() {
            StateKind::Unloaded => self.answer_unloads(&UnloadReport::nothing()),
            StateKind::Unloading => self.answer_unreaped(),
            _ => {}
        }
    }

    /// Nobody holds the model any more.
    pub(super) fn unload_if_unneeded(&mut self) {
        let drain_timeout = self.context.limits.drain_timeout;
        // Nobody waits for the report.
        let (reply, _) = oneshot::channel();
        self.handle_unload(UnloadCommand::only_if_unneeded(drain_timeout, reply));
    }

    /// What the unload that ends now did; `device_bytes` were seen to come back.
    pub(super) fn unload_report(
        &self,
        verification: Verification,
        device_bytes: u64,
    ) -> UnloadReport {
        match self.resources.worker() {
            Some(worker) => worker.unload_report(verification, device_bytes),
            None => UnloadReport::nothing(),
        }
    }

    pub(super) fn answer_unloads(&mut self, report: &UnloadReport) {
        for waiter in self.waiters.unloads.drain(..) {
            let _ = waiter.send(*report);
        }
    }

    /// Answers those who wait for an unload, if the worker does not go.
    pub(super) fn answer_unreaped(&mut self) {
        if self
            .state
            .failure()
            .is_some_and(|failure| failure.reason == Reason::Unreaped)
        {
            let report = UnloadReport {
                host_bytes: 0,
                ..self.unload_report(Verification::TimedOut, 0)
            };
            self.answer_unloads(&report);
        }
    }

    /// Answers those who wait for loads with their failure, but for those of the load that goes on.
    pub(super) fn give_up_loads(&mut self, goes_on: Option<&LoadId>, failure: &Failure) {
        let loads = std::mem::take(&mut self.waiters.loads);
        for (id, waiter) in loads {
            if Some(&id) == goes_on {
                self.waiters.loads.push((id, waiter));
            } else {
                let _ = waiter.send(Err(failure.clone()));
            }
        }
    }

    pub(super) fn answer_loads(&mut self, load_id: &LoadId, outcome: &LoadOutcome) {
        let answer = match outcome {
            LoadOutcome::Succeeded => Ok(self.published.upcoming().clone()),
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

/// A load of `spec` at its first attempt, or at the one in which the server died.
fn first_attempt(spec: &Spec, instruction: &LoadInstruction) -> Load {
    let crashed = instruction.crashed.as_ref();
    Load {
        attempt: crashed.map_or(1, |attempt| attempt.number),
        remote: is_remote(spec),
        ..Load::first(spec.restart_policy())
    }
}
