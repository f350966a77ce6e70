//! Applying events, performing actions, publishing transitions.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use tracing::Span;

use super::{Driver, PlacementState, Stopping};
use crate::{
    catalog::{Attempt, Learned, Note},
    failpoint,
    lifecycle::{
        admission::AdmissionQueue,
        driver::commands::Verification,
        files::FileWatch,
        timers::Timer,
        worker_session::{WorkerLaunch, WorkerSession},
    },
    model::{
        Failure, LoadId, LoadOutcome, LoadRecord, Memory, Phase, Progress, ProgressMeter, Spec,
        Stage,
        state::{Action, Event},
    },
};

impl Driver {
    /// Applies `event`, performs what comes of it and publishes the new state.
    pub(super) fn apply(&mut self, event: Event) {
        let (next, actions) = match self.state.on(event) {
            Ok(transition) => transition,
            Err(rejected) => {
                tracing::debug!(model = %self.model.id(), %rejected, "event ignored");
                return;
            }
        };
        let before = std::mem::replace(&mut self.state, next);
        failpoint::pass("driver-transition", Some(self.model.id().as_str()));
        let mut resume = None;
        self.publisher.edit().next_load = self.state.next().map(|load| load.id.clone());
        for action in &actions {
            self.prepare(action);
        }
        let replaced = self
            .state
            .load()
            .zip(before.load())
            .is_some_and(|(now, then)| now.id != then.id);
        let lost = self.state.is_unreaped() && !before.is_unreaped();
        if self.state.stage() != before.stage() || replaced || lost {
            self.enter(before.stage());
        } else if self.state.next() != before.next() {
            self.publish_progress();
        }
        for action in actions {
            match action {
                Action::Resume(load) => resume = Some(load),
                other => self.perform(other),
            }
        }
        if let Some(load) = resume {
            self.apply(Event::Load(load));
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
                self.publisher.edit().next_retry = Some(SystemTime::now() + wait);
            }
            Action::Finish(_, LoadOutcome::Succeeded) => self.record_success(),
            // The state on the way to it tells that it comes.
            Action::Resume(load) => self.publisher.edit().next_load = Some(load.id.clone()),
            _ => {}
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::RequestSlot => self.request_placement(),
            Action::ReleaseSlot => self.placement = PlacementState::None,
            Action::Spawn => self.spawn(),
            Action::BuildEngine => {
                if let Some(session) = &self.session {
                    session.build();
                }
            }
            Action::Drain => {
                self.mark_leaving();
                self.timers
                    .set(Timer::Drain, Instant::now() + self.drain_timeout);
            }
            Action::Stop => self.stop(),
            Action::Kill => self.kill(),
            Action::Verify => self.verify(),
            Action::Finish(load, outcome) => self.finish(&load, outcome),
            Action::Download => self.download(),
            Action::StopDownload => self.download = None,
            Action::Admit | Action::CutOff(_) | Action::ScheduleRetry(_) | Action::Resume(_) => {}
        }
    }

    /// Publishes that the model left `before`.
    fn enter(&mut self, before: Stage) {
        let stage = self.state.stage();
        let now = SystemTime::now();
        self.record_phase(before, stage);
        if before == Stage::Backoff {
            self.timers.clear(Timer::Retry);
            self.publisher.edit().next_retry = None;
        }
        if before == Stage::Draining {
            self.timers.clear(Timer::Drain);
        }
        match stage {
            Stage::Pending => self.begin_attempt(before),
            Stage::Downloading => self.meter.enter(Phase::Downloading, 0),
            Stage::Starting => self.meter.enter(Phase::Starting, 0),
            Stage::Loading => self.meter.enter(Phase::Loading, self.weight_bytes()),
            Stage::Warming => self.meter.enter(Phase::Warming, self.weight_bytes()),
            Stage::Ready => {
                self.end_attempt();
                let stable = self.model.facts().entry.spec.restart_policy().stable_period;
                self.timers.set(Timer::Stable, Instant::now() + stable);
            }
            _ => {}
        }
        if before == Stage::Ready {
            self.timers.clear(Timer::Stable);
            self.model.learn(|facts| facts.ready_since = None);
            if stage == Stage::Backoff {
                self.load.restart = true;
                self.load.began = Instant::now();
                self.load.began_at = now;
                self.meter = ProgressMeter::new();
            }
        }
        if stage != Stage::Starting {
            self.admission = None;
        }
        if matches!(stage, Stage::Ready | Stage::Failed) {
            self.context.settled(self.model.id());
        }
        if stage == Stage::Backoff && self.load.restart {
            // The next attempt has the whole time again.
            self.timers.clear(Timer::Load);
        }
        if !matches!(
            stage,
            Stage::Starting
                | Stage::Loading
                | Stage::Warming
                | Stage::Ready
                | Stage::Draining
                | Stage::Unloading
        ) {
            self.record_peak();
            self.clear_worker();
        }
        self.refresh();
        self.publisher.transition(stage, now);
        // After it is published: whoever reads the log may be slow.
        let status = self.publisher.draft();
        tracing::info!(
            model = %self.model.id(),
            state = stage.name(),
            generation = status.generation.0,
            reason = status.failure.as_ref().map(|f| f.reason.name()),
            message = status.failure.as_ref().map(|f| f.message.as_str()),
            "model.transition"
        );
    }

    /// Records how long the phase `before` of a load took, and how it ended.
    fn record_phase(&mut self, before: Stage, stage: Stage) {
        let took = std::mem::replace(&mut self.entered, Instant::now()).elapsed();
        if !before.is_loading() || before == Stage::Backoff {
            return;
        }
        let outcome = match stage {
            Stage::Failed | Stage::Backoff => "failed",
            Stage::Unloaded | Stage::Unloading => "cancelled",
            _ => "succeeded",
        };
        self.context.metrics.load_phase_ended(
            self.model.id().as_str(),
            before.name(),
            outcome,
            took,
        );
    }

    fn begin_attempt(&mut self, before: Stage) {
        self.leftover = None;
        let again =
            self.state.load().map(|load| &load.id) == self.publisher.draft().load_id.as_ref();
        if before == Stage::Backoff && again {
            self.publisher.edit().restarts += 1;
            if self.load.restart {
                self.timers
                    .set(Timer::Load, Instant::now() + self.load.timeout);
            }
        } else {
            self.meter = ProgressMeter::new();
        }
        self.meter.enter(Phase::Pending, 0);
    }

    /// Brings the status in line with the state and with what is known of the worker.
    fn refresh(&mut self) {
        let stage = self.state.stage();
        let leftover = self.leftover.clone().filter(|_| stage == Stage::Unloaded);
        let failure = self.state.failure().or(leftover);
        let progress = self.progress(stage);
        let occupancy = self.queue.as_ref().map(|queue| queue.occupancy());
        let occupancy = occupancy.unwrap_or_default();
        let status = self.publisher.edit();
        if let Some(load) = self.state.load() {
            status.load_id = Some(load.id.clone());
            status.attempt = load.attempt;
        }
        status.failure = failure;
        status.progress = progress;
        status.in_flight = occupancy.running;
        status.queued = occupancy.waiting;
    }

    /// How far the load is that is under way, if one is.
    fn progress(&self, stage: Stage) -> Option<Progress> {
        if !stage.is_loading() || stage == Stage::Backoff {
            return None;
        }
        let mut progress = self.meter.current();
        if matches!(stage, Stage::Starting | Stage::Loading | Stage::Warming) {
            // Where the bytes do not tell yet, the last load does.
            let learned = &self.model.facts().learned;
            let left = expected_left(learned, &self.spec, &self.device_name(), self.load.began);
            progress.eta = progress.eta.or(left);
        }
        Some(progress)
    }

    /// Publishes progress, which is no transition.
    pub(super) fn publish_progress(&mut self) {
        self.refresh();
        self.publisher.progress();
    }

    /// Publishes figures that watchers are not sent.
    pub(super) fn note(&mut self) {
        self.refresh();
        self.publisher.note();
    }

    fn weight_bytes(&self) -> u64 {
        self.monitor
            .as_ref()
            .map_or(0, |monitor| monitor.weight_bytes())
    }

    fn spawn(&mut self) {
        let context = self.context.clone();
        let spec = self.spec.clone();
        self.peak = Memory::default();
        self.model.learn(|facts| facts.built = Some(spec.clone()));
        self.attempt = self.state.load().map(|load| Attempt {
            load_id: load.id.clone(),
            number: load.attempt,
        });
        let gpu = self.on_gpu.as_ref().map(|on| &on.gpu);
        let mut launch = WorkerLaunch::new(&context, self.model.id(), &spec, gpu);
        launch.config.files = self.downloaded_files();
        launch.attempt.clone_from(&self.attempt);
        launch.span = self.load_span.clone();
        self.session = Some(WorkerSession::start(&context, launch));
    }

    /// The attempt that is on disk has come to an end that the server saw.
    fn end_attempt(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            let note = Note::AttemptEnded(attempt);
            self.context.catalog.note(self.model.id(), note);
        }
    }

    /// What the worker holds is on its way back.
    fn mark_leaving(&self) {
        if let Some(reservation) = &self.reservation {
            reservation.mark_leaving();
        }
    }

    fn admit(&mut self) {
        let Some(client) = self.client.clone() else {
            return;
        };
        let defaults = self.model.facts().entry.spec.generation_defaults.clone();
        let queue = Arc::new(AdmissionQueue::new(
            client,
            defaults,
            self.admission_limits(),
            self.prompts.fatal(),
        ));
        self.queue = Some(queue.clone());
        self.model.gate.open(queue);
    }

    fn cut_off(&mut self, failure: &Failure) {
        // A worker that is being killed serves nobody, but its model is READY until it has gone.
        if self.state.stage() == Stage::Ready {
            self.model.gate.cut_off(failure.clone());
        } else {
            self.model.gate.close();
        }
        if let Some(queue) = &self.queue {
            queue.cut_off(failure.clone());
        }
    }

    fn stop(&mut self) {
        self.mark_leaving();
        self.record_last_memory();
        if let Some(session) = &self.session {
            session.stop();
        }
        self.timers.set(
            Timer::Stop,
            Instant::now() + self.context.limits.kill_timeout,
        );
    }

    pub(super) fn kill(&mut self) {
        self.mark_leaving();
        self.record_last_memory();
        self.stopping.killed = true;
        if let Some(session) = &self.session {
            session.kill();
        }
        self.timers.clear(Timer::Stop);
        self.timers.set(
            Timer::Kill,
            Instant::now() + self.context.limits.kill_timeout,
        );
    }

    /// What the worker holds just before it goes.
    fn record_last_memory(&mut self) {
        if let Some(monitor) = &mut self.monitor
            && self.stopping.began.is_none()
        {
            self.stopping.held = monitor.memory_now();
            self.observe_device();
        }
        self.stopping.began.get_or_insert_with(Instant::now);
    }

    /// A reaped process has given back all host memory; a device is looked at.
    fn verify(&mut self) {
        if !self.begin_release() {
            self.end_unload(Verification::Reaped, 0);
        }
    }

    fn clear_worker(&mut self) {
        self.end_attempt();
        self.admission = None;
        self.release_memory();
        self.model.set_admitted(0);
        self.inspection = None;
        self.model.learn(|facts| {
            facts.built = None;
            facts.files_changed = None;
        });
        self.files = FileWatch::default();
        self.model.files.store(None);
        self.timers.clear(Timer::Stop);
        self.timers.clear(Timer::Kill);
        self.monitor = None;
        self.client = None;
        self.queue = None;
        self.stopping = Stopping::default();
        self.publisher.edit().memory = None;
        self.publisher.edit().kv_blocks = None;
        self.publisher.edit().worker_pid = None;
    }

    fn record_success(&mut self) {
        let now = SystemTime::now();
        let took = self.load.began.elapsed();
        self.model.learn(|facts| {
            facts.learned.metadata.load_duration = Some(took);
            facts.learned.metadata.loaded = Some(now);
            facts.ready_since = Some(now);
        });
    }

    fn finish(&mut self, load_id: &LoadId, outcome: LoadOutcome) {
        self.timers.clear(Timer::Load);
        self.load_span = Span::none();
        let name = match outcome {
            LoadOutcome::Succeeded => "succeeded",
            LoadOutcome::Failed(_) => "failed",
            LoadOutcome::Cancelled => "cancelled",
        };
        self.context.metrics.load_phase_ended(
            self.model.id().as_str(),
            "total",
            name,
            self.load.began.elapsed(),
        );
        self.record_load(&LoadRecord {
            load_id: load_id.clone(),
            outcome: outcome.clone(),
            started: self.load.began_at,
            ended: SystemTime::now(),
            attempts: self.publisher.draft().attempt,
        });
        self.answer_loads(load_id, &outcome);
    }
}

/// What is left of a load that began at `began` and takes as long as the last one of the same kind did.
fn expected_left(learned: &Learned, spec: &Spec, device: &str, began: Instant) -> Option<Duration> {
    let known = learned.memory.as_ref()?;
    let took = learned.metadata.load_duration?;
    let left = took.checked_sub(began.elapsed())?;
    known.is_of(spec, device).then_some(left)
}
