//! Applying events to the state, performing the actions that come of them, and what is done on the way into each state and
//! out of it.

use std::time::SystemTime;

use tokio::time::Instant;
use tracing::Span;

use super::{ModelDriver, resources::ResourceEvent, timers::Timer};
use crate::{
    failpoint,
    model::{
        LoadId, LoadOutcome, LoadOutcomeKind, LoadRecord, ProgressMeter, StateKind,
        state::{Action, Event, State},
    },
};

impl ModelDriver {
    /// What the resources waited for has come.
    pub(super) fn handle_event(&mut self, event: ResourceEvent) {
        match event {
            ResourceEvent::Placed(placement) => self.placement_granted(placement),
            ResourceEvent::Download(event) => self.handle_download_event(event),
            ResourceEvent::Worker(event) => self.handle_worker_event(event),
            ResourceEvent::Released(released) => self.device_released(released),
        }
    }

    /// Applies `event`, performs what comes of it and publishes the new state.
    pub(super) fn apply(&mut self, event: Event) {
        if self.model.was_declared_stuck() {
            self.recover();
        }
        let (next, actions) = match self.state.on(event) {
            Ok(transition) => transition,
            Err(rejected) => {
                tracing::debug!(model = %self.model.id(), %rejected, "event ignored");
                return;
            }
        };
        let before = std::mem::replace(&mut self.state, next);
        failpoint::pass("driver-transition", Some(self.model.id().as_str()));
        let mut start = None;
        self.published.edit().next_load = self.state.next().map(|load| load.id.clone());
        for action in &actions {
            self.prepare(action);
        }
        self.publish_change(&before);
        for action in actions {
            match action {
                Action::StartLoad(load) => start = Some(load),
                other => self.perform(other),
            }
        }
        if let Some(load) = start {
            self.apply(Event::Load(load));
        }
    }

    /// Publishes what watchers have to see of the change from the state `before`, if that is anything.
    fn publish_change(&mut self, before: &State) {
        let loads = self.state.load().zip(before.load());
        let replaced = loads.is_some_and(|(now, then)| now.id != then.id);
        let became_unreaped = self.state.is_unreaped() && !before.is_unreaped();
        if self.state.kind() != before.kind() || replaced || became_unreaped {
            self.enter(before.kind());
        } else if self.state.next() != before.next() {
            self.publish_progress();
        }
    }

    /// What has to be true before the transition is seen: the gate and the figures that go with it.
    fn prepare(&mut self, action: &Action) {
        match action {
            Action::Admit => self.admit(),
            Action::Drain => self.model.gate.close(),
            Action::CutOff(failure) => self.cut_off(failure),
            Action::ScheduleRetry(attempt) => {
                let policy = self.model.facts().entry.spec.restart_policy();
                let wait = policy.backoff(*attempt, fastrand::f64());
                self.timers.set(Timer::Retry, Instant::now() + wait);
                self.published.edit().next_retry = Some(SystemTime::now() + wait);
            }
            Action::Finish(_, LoadOutcome::Succeeded) => self.record_success(),
            // The state on the way to it says that it comes.
            Action::StartLoad(load) => self.published.edit().next_load = Some(load.id.clone()),
            _ => {}
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::RequestSlot => self.request_placement(),
            Action::ReleaseSlot => self.resources.release_slot(),
            Action::Spawn => self.spawn(),
            Action::BuildEngine => {
                let worker = self.resources.worker();
                if let Some(task) = worker.and_then(|worker| worker.task.as_ref()) {
                    task.build();
                }
            }
            Action::Drain => {
                self.mark_leaving();
                let deadline = Instant::now() + self.drain_timeout;
                self.timers.set(Timer::Drain, deadline);
            }
            Action::Stop => self.stop(),
            Action::Kill => self.kill(),
            Action::Verify => self.verify(),
            Action::Finish(load, outcome) => self.finish(&load, outcome),
            Action::Download => self.download(),
            Action::StopDownload => self.resources.end_download(),
            Action::Admit | Action::CutOff(_) | Action::ScheduleRetry(_) | Action::StartLoad(_) => {
            }
        }
    }

    /// The model left `before`: what belonged to that state ends, and the new one is published.
    fn enter(&mut self, before: StateKind) {
        let state = self.state.kind();
        let now = SystemTime::now();
        self.record_phase(before);
        self.leave(before, now);
        if state == StateKind::Pending {
            self.begin_attempt(before);
        }
        self.enter_phase(state);
        self.arrive(state);
        if state != StateKind::Starting
            && let Some(worker) = self.resources.worker_mut()
        {
            worker.memory.cancel_request();
        }
        if !state.has_worker() {
            self.end_worker();
        }
        self.publish_transition(now);
    }

    /// Ends what belonged to the state `before`. A load that was over by then is followed by another one.
    fn leave(&mut self, before: StateKind, now: SystemTime) {
        let was_over = match before {
            StateKind::Backoff => {
                self.timers.clear(Timer::Retry);
                self.published.edit().next_retry = None;
                false
            }
            StateKind::Draining => {
                self.timers.clear(Timer::Drain);
                false
            }
            StateKind::Ready => {
                self.timers.clear(Timer::Stable);
                self.model.update_facts(|facts| facts.ready_since = None);
                true
            }
            StateKind::Unloading => true,
            StateKind::Unloaded
            | StateKind::Pending
            | StateKind::Downloading
            | StateKind::Starting
            | StateKind::Loading
            | StateKind::Warming
            | StateKind::Failed => false,
        };
        if was_over && self.state.kind() == StateKind::Backoff {
            self.load.begin_restart(now);
            self.published.meter = ProgressMeter::new();
        }
    }

    /// Begins what belongs to `state`.
    fn arrive(&mut self, state: StateKind) {
        match state {
            StateKind::Ready => {
                self.end_attempt();
                let stable = self.model.facts().entry.spec.restart_policy().stable_period;
                self.timers.set(Timer::Stable, Instant::now() + stable);
                self.context.record_first_outcome(self.model.id());
            }
            StateKind::Failed => self.context.record_first_outcome(self.model.id()),
            StateKind::Backoff => {
                if self.load.restart {
                    // The next attempt has the whole time again.
                    self.timers.clear(Timer::Load);
                }
            }
            StateKind::Unloaded
            | StateKind::Pending
            | StateKind::Downloading
            | StateKind::Starting
            | StateKind::Loading
            | StateKind::Warming
            | StateKind::Draining
            | StateKind::Unloading => {}
        }
    }

    fn begin_attempt(&mut self, before: StateKind) {
        let status = self.published.edit();
        let again = self.state.load().map(|load| &load.id) == status.load_id.as_ref();
        if before == StateKind::Backoff && again {
            status.restarts += 1;
            if self.load.restart {
                let deadline = Instant::now() + self.load.timeout;
                self.timers.set(Timer::Load, deadline);
            }
        } else {
            self.published.meter = ProgressMeter::new();
        }
    }

    fn record_success(&mut self) {
        let now = SystemTime::now();
        let took = self.load.began.elapsed();
        self.model.update_facts(|facts| {
            facts.learned.metadata.load_duration = Some(took);
            facts.learned.metadata.loaded = Some(now);
            facts.ready_since = Some(now);
        });
    }

    fn finish(&mut self, load_id: &LoadId, outcome: LoadOutcome) {
        self.timers.clear(Timer::Load);
        self.load.span = Span::none();
        let kind = LoadOutcomeKind::from(&outcome);
        let (id, took) = (self.model.id().as_str(), self.load.began.elapsed());
        self.context.metrics.load_ended(id, None, kind, took);
        self.record_load(&LoadRecord {
            load_id: load_id.clone(),
            outcome: outcome.clone(),
            started: self.load.began_at,
            ended: SystemTime::now(),
            attempts: self.published.upcoming().attempt,
        });
        self.answer_loads(load_id, &outcome);
    }
}
