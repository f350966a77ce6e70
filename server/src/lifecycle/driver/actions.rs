//! Applying events to the state, and performing the actions that come of them.

use std::{sync::Arc, time::SystemTime};

use tokio::time::Instant;
use tracing::Span;

use super::{ModelDriver, phases::HostedWorker, timers::Timer};
use crate::{
    catalog::{LoadAttempt, Note},
    failpoint,
    lifecycle::{
        admission::AdmissionQueue,
        command::Verification,
        worker_task::{WorkerLaunch, WorkerTask},
    },
    model::{
        Failure, LoadId, LoadOutcome, LoadRecord, ProgressMeter, Stage,
        state::{Action, Event, State},
    },
};

impl ModelDriver {
    /// Applies `event`, performs what comes of it and publishes the new state.
    pub(super) fn apply(&mut self, event: Event) {
        if self.model.was_abandoned() {
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
        let mut resume = None;
        self.publication.edit().next_load = self.state.next().map(|load| load.id.clone());
        for action in &actions {
            self.prepare(action);
        }
        self.publish_change(&before);
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

    /// Publishes what watchers have to see of the change from the state `before`, if that is anything.
    fn publish_change(&mut self, before: &State) {
        let loads = self.state.load().zip(before.load());
        let replaced = loads.is_some_and(|(now, then)| now.id != then.id);
        let lost = self.state.is_unreaped() && !before.is_unreaped();
        if self.state.stage() != before.stage() || replaced || lost {
            self.enter(before.stage());
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
                self.publication.edit().next_retry = Some(SystemTime::now() + wait);
            }
            Action::Finish(_, LoadOutcome::Succeeded) => self.record_success(),
            // The state on the way to it tells that it comes.
            Action::Resume(load) => self.publication.edit().next_load = Some(load.id.clone()),
            _ => {}
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::RequestSlot => self.request_placement(),
            Action::ReleaseSlot => self.phase.release_slot(),
            Action::Spawn => self.spawn(),
            Action::BuildEngine => {
                let worker = self.phase.worker();
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
            Action::StopDownload => self.phase.end_download(),
            Action::Admit | Action::CutOff(_) | Action::ScheduleRetry(_) | Action::Resume(_) => {}
        }
    }

    /// The model left `before`: what belonged to that stage ends, and the new one is published.
    fn enter(&mut self, before: Stage) {
        let stage = self.state.stage();
        let now = SystemTime::now();
        self.record_phase(before);
        self.leave(before, now);
        if stage == Stage::Pending {
            self.begin_attempt(before);
        }
        self.enter_phase(stage);
        if stage == Stage::Ready {
            self.end_attempt();
            let stable = self.model.facts().entry.spec.restart_policy().stable_period;
            self.timers.set(Timer::Stable, Instant::now() + stable);
        }
        if stage != Stage::Starting
            && let Some(worker) = self.phase.worker_mut()
        {
            worker.memory.cancel_request();
        }
        if matches!(stage, Stage::Ready | Stage::Failed) {
            self.context.settled(self.model.id());
        }
        if stage == Stage::Backoff && self.load.restart {
            // The next attempt has the whole time again.
            self.timers.clear(Timer::Load);
        }
        if !has_worker(stage) {
            self.end_worker();
        }
        self.publish_transition(now);
    }

    /// Ends what belonged to the stage `before`.
    fn leave(&mut self, before: Stage, now: SystemTime) {
        match before {
            Stage::Backoff => {
                self.timers.clear(Timer::Retry);
                self.publication.edit().next_retry = None;
            }
            Stage::Draining => self.timers.clear(Timer::Drain),
            Stage::Ready => {
                self.timers.clear(Timer::Stable);
                self.model.learn(|facts| facts.ready_since = None);
            }
            Stage::Unloaded
            | Stage::Pending
            | Stage::Downloading
            | Stage::Starting
            | Stage::Loading
            | Stage::Warming
            | Stage::Unloading
            | Stage::Failed => {}
        }
        let was_over = matches!(before, Stage::Ready | Stage::Unloading);
        if was_over && self.state.stage() == Stage::Backoff {
            self.load.begin_restart(now);
            self.publication.meter = ProgressMeter::new();
        }
    }

    fn begin_attempt(&mut self, before: Stage) {
        let status = self.publication.edit();
        let again = self.state.load().map(|load| &load.id) == status.load_id.as_ref();
        if before == Stage::Backoff && again {
            status.restarts += 1;
            if self.load.restart {
                let deadline = Instant::now() + self.load.timeout;
                self.timers.set(Timer::Load, deadline);
            }
        } else {
            self.publication.meter = ProgressMeter::new();
        }
    }

    fn spawn(&mut self) {
        let files = self.downloaded_files();
        let Some(placement) = self.phase.take_placement() else {
            return;
        };
        let spec = self.load.spec.clone();
        self.model.learn(|facts| facts.built = Some(spec.clone()));
        let attempt = self.state.load().map(|load| LoadAttempt {
            load_id: load.id.clone(),
            number: load.attempt,
        });
        let gpu = placement.gpu.as_ref().map(|on| &on.gpu);
        let mut launch = WorkerLaunch::new(&self.context, self.model.id(), &spec, gpu);
        launch.config.files = files;
        launch.attempt.clone_from(&attempt);
        launch.span = self.load.span.clone();
        let task = WorkerTask::start(&self.context, launch);
        let kill = Arc::new(task.kill_token());
        self.model.worker_kill.store(Some(kill));
        self.phase.host(HostedWorker::new(task, placement, attempt));
        self.forget_other_places();
    }

    /// The attempt that is on disk has come to an end that the server saw.
    fn end_attempt(&mut self) {
        let worker = self.phase.worker_mut();
        if let Some(attempt) = worker.and_then(|worker| worker.attempt.take()) {
            let note = Note::AttemptEnded(attempt);
            self.context.catalog.note(self.model.id(), note);
        }
    }

    /// What the worker holds is on its way back.
    fn mark_leaving(&self) {
        if let Some(worker) = self.phase.worker() {
            worker.mark_leaving();
        }
    }

    fn admit(&mut self) {
        let Some(worker) = self.phase.worker() else {
            return;
        };
        let Some(client) = worker.client.clone() else {
            return;
        };
        let defaults = self.model.facts().entry.spec.generation_defaults.clone();
        let limits = self.admission_limits(worker);
        let fatal = self.load.prompts.fatal();
        let queue = Arc::new(AdmissionQueue::new(client, defaults, limits, fatal));
        if let Some(worker) = self.phase.worker_mut() {
            worker.queue = Some(queue.clone());
        }
        self.model.gate.open(queue);
    }

    fn cut_off(&mut self, failure: &Failure) {
        let ready = self.state.stage() == Stage::Ready;
        self.cut_off_requests(failure, ready);
    }

    /// Ends all requests with `failure`; so do newcomers while the model is still `ready` for watchers.
    pub(super) fn cut_off_requests(&self, failure: &Failure, ready: bool) {
        // A worker that is being killed serves nobody, but its model is READY until it has gone.
        if ready {
            self.model.gate.cut_off(failure.clone());
        } else {
            self.model.gate.close();
        }
        let worker = self.phase.worker();
        if let Some(queue) = worker.and_then(|worker| worker.queue.as_ref()) {
            queue.cut_off(failure.clone());
        }
    }

    fn stop(&mut self) {
        self.mark_leaving();
        self.record_last_memory();
        let worker = self.phase.worker();
        if let Some(task) = worker.and_then(|worker| worker.task.as_ref()) {
            task.stop();
        }
        let limit = self.context.limits.kill_timeout;
        self.timers.set(Timer::Stop, Instant::now() + limit);
    }

    pub(super) fn kill(&mut self) {
        self.mark_leaving();
        self.record_last_memory();
        if let Some(worker) = self.phase.worker_mut() {
            worker.kill();
        }
        self.timers.clear(Timer::Stop);
        let limit = self.context.limits.kill_timeout;
        self.timers.set(Timer::Kill, Instant::now() + limit);
    }

    /// What the worker holds just before it goes.
    fn record_last_memory(&mut self) {
        let Some(worker) = self.phase.worker_mut() else {
            return;
        };
        if worker.stopping.began.is_some() {
            return;
        }
        worker.stopping.began = Some(Instant::now());
        if let Some(monitor) = &mut worker.monitor {
            worker.stopping.held = monitor.memory_now();
            self.observe_device();
        }
    }

    /// A reaped process has given back all host memory; a device is looked at.
    fn verify(&mut self) {
        if !self.begin_release() {
            self.end_unload(Verification::Reaped, 0);
        }
    }

    /// No worker lives any more: what it had is given back, and what it taught is kept.
    fn end_worker(&mut self) {
        self.end_attempt();
        let pid = self.publication.draft().worker_pid;
        let Some(worker) = self.phase.take_worker() else {
            return;
        };
        self.record_peak(&worker);
        self.release_memory(*worker, pid);
        self.model.set_admitted(0);
        self.model.learn(|facts| {
            facts.built = None;
            facts.files_changed = None;
        });
        self.model.files.store(None);
        self.timers.clear(Timer::Stop);
        self.timers.clear(Timer::Kill);
        let status = self.publication.edit();
        status.memory = None;
        status.kv_blocks = None;
        status.worker_pid = None;
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
        self.load.span = Span::none();
        let name = match outcome {
            LoadOutcome::Succeeded => "succeeded",
            LoadOutcome::Failed(_) => "failed",
            LoadOutcome::Cancelled => "cancelled",
        };
        let (id, took) = (self.model.id().as_str(), self.load.began.elapsed());
        self.context
            .metrics
            .load_phase_ended(id, "total", name, took);
        self.record_load(&LoadRecord {
            load_id: load_id.clone(),
            outcome: outcome.clone(),
            started: self.load.began_at,
            ended: SystemTime::now(),
            attempts: self.publication.draft().attempt,
        });
        self.answer_loads(load_id, &outcome);
    }
}

/// Whether a model in `stage` may have a worker.
fn has_worker(stage: Stage) -> bool {
    match stage {
        Stage::Starting
        | Stage::Loading
        | Stage::Warming
        | Stage::Ready
        | Stage::Draining
        | Stage::Unloading => true,
        Stage::Unloaded | Stage::Pending | Stage::Downloading | Stage::Backoff | Stage::Failed => {
            false
        }
    }
}
