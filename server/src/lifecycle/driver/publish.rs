//! What others see of a model: its transitions, and the figures in between.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::ModelDriver;
use crate::{
    catalog::LearnedFacts,
    model::{DeviceName, LoadOutcomeKind, Progress, Spec, StateKind, state::StateGroup},
};

impl ModelDriver {
    /// Publishes that the model came into its state at the time `now`.
    pub(super) fn publish_transition(&mut self, now: SystemTime) {
        let state = self.state.kind();
        self.refresh();
        self.published.publisher.transition(state, now);
        // After it is published: whoever reads the log may be slow.
        let status = self.published.upcoming();
        tracing::info!(
            model = %self.model.id(),
            state = state.name(),
            generation = status.generation.0,
            reason = status.failure.as_ref().map(|f| f.reason.name()),
            message = status.failure.as_ref().map(|f| f.message.as_str()),
            "model.transition"
        );
    }

    /// Publishes progress, which is no transition.
    pub(super) fn publish_progress(&mut self) {
        self.refresh();
        self.published.publisher.progress();
    }

    /// Publishes figures that watchers are not sent.
    pub(super) fn publish_figures(&mut self) {
        self.refresh();
        self.published.publisher.update_silently();
    }

    /// Begins to measure the progress of `state`.
    pub(super) fn enter_phase(&mut self, state: StateKind) {
        let Some(phase) = state.load_phase() else {
            return;
        };
        let monitor = self.resources.monitor();
        let total = monitor.map_or(0, |monitor| monitor.weight_bytes());
        self.published.meter.enter(phase, total);
    }

    /// Records how long the phase `before` of a load took, and how it ended.
    pub(super) fn record_phase(&mut self, before: StateKind) {
        let entered = std::mem::replace(&mut self.published.entered, Instant::now());
        let phase = before.load_phase();
        if phase.is_none() {
            return;
        }
        let outcome = match self.state.kind().group() {
            StateGroup::Load(_) | StateGroup::Serve | StateGroup::Drain => {
                LoadOutcomeKind::Succeeded
            }
            StateGroup::Idle | StateGroup::Retry | StateGroup::Stop => match self.state.failure() {
                Some(_) => LoadOutcomeKind::Failed,
                None => LoadOutcomeKind::Cancelled,
            },
        };
        let (id, took) = (self.model.id().as_str(), entered.elapsed());
        let metrics = &self.context.metrics;
        metrics.load_ended(id, phase, outcome, took);
    }

    /// Brings the status in line with the state and with what is known of the worker.
    fn refresh(&mut self) {
        let state = self.state.kind();
        let unload_failure = self.resources.unload_failure().cloned();
        let unload_failure = unload_failure.filter(|_| state == StateKind::Unloaded);
        let failure = self.state.failure().or(unload_failure);
        let progress = self.progress(state);
        let worker = self.resources.worker();
        let occupancy = worker.map(|worker| worker.occupancy()).unwrap_or_default();
        let status = self.published.edit();
        if let Some(load) = self.state.load() {
            status.load_id = Some(load.id.clone());
            status.attempt = load.attempt;
        }
        status.failure = failure;
        status.progress = progress;
        // As of now: requests come and go without being published, and watchers hear of them with what is published next.
        // Whoever asks gets those of the moment (`TrackedModel::live_status`).
        status.in_flight = occupancy.running;
        status.queued = occupancy.waiting;
    }

    /// How far the load is that is under way, if one is.
    fn progress(&self, state: StateKind) -> Option<Progress> {
        state.load_phase()?;
        let mut progress = self.published.meter.current();
        if state.has_worker() {
            // Where the bytes say nothing yet, the last load does.
            let learned = &self.model.facts().learned;
            let device = self.device_name();
            let left = expected_left(learned, &self.load.spec, &device, self.load.began);
            progress.eta = progress.eta.or(left);
        }
        Some(progress)
    }
}

/// What is left of a load that began at `began` and takes as long as the last one of the same kind did.
fn expected_left(
    learned: &LearnedFacts,
    spec: &Spec,
    device: &DeviceName,
    began: Instant,
) -> Option<Duration> {
    let known = learned.memory.as_ref()?;
    let took = learned.metadata.load_duration?;
    let left = took.checked_sub(began.elapsed())?;
    known.is_of(spec, device).then_some(left)
}
