//! Looks at the worker from outside, and what comes of them.

use super::Driver;
use crate::model::{Failure, Stage, state::Event};

impl Driver {
    /// Looks at the worker: progress and stalls of a load, hangs of an engine, memory.
    pub(super) fn observe(&mut self) {
        let Some(monitor) = &mut self.monitor else {
            return;
        };
        if self.admission.is_some() {
            // It waits for memory, and has nothing to do meanwhile.
            monitor.reset_inactivity();
        }
        monitor.observe();
        let memory = monitor.memory();
        self.publisher.edit().kv_blocks = monitor.kv_blocks();
        if self.stopping.began.is_none() {
            self.observe_device();
        }
        self.record_memory(memory);
        self.record_pace();
        let Some(monitor) = &mut self.monitor else {
            return;
        };
        let (stage, limits) = (self.state.stage(), &self.context.limits);
        let occupancy = self
            .queue
            .as_ref()
            .map(|queue| queue.occupancy())
            .unwrap_or_default();
        let fault = match stage {
            Stage::Starting | Stage::Loading | Stage::Warming => {
                monitor.follow_load(limits);
                monitor.stalled(limits)
            }
            Stage::Ready | Stage::Draining => {
                let pace = self.model.facts().learned.pace;
                monitor.follow_engine(&occupancy, limits);
                monitor.hung(&occupancy, limits, pace)
            }
            _ => None,
        };
        let progress = match (stage, monitor.bytes_read()) {
            (Stage::Loading, Some((bytes, elapsed))) => self.meter.observe(bytes, elapsed),
            _ => None,
        };
        match progress {
            Some(_) => self.publish_progress(),
            None => self.note(),
        }
        match fault {
            Some(failure) => self.fail(failure),
            None if stage == Stage::Ready => {
                self.files.check(self.model.files.load_full());
                self.end_idleness();
            }
            None => {}
        }
    }

    /// The worker cannot go on.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.record_prompts(&failure);
        self.apply(Event::Fault(failure));
    }

    /// The worker ends by this failure: what it had to read may be why.
    pub(super) fn record_prompts(&mut self, failure: &Failure) {
        let served = matches!(self.state.stage(), Stage::Ready | Stage::Draining);
        if let Some(monitor) = &self.monitor
            && served
            && !self.state.is_terminating()
        {
            self.prompts.worker_ended(monitor.prompts(), failure.reason);
        }
    }

    /// Takes note of how quickly the engine works.
    fn record_pace(&mut self) {
        let Some(seen) = self.monitor.as_ref().and_then(|monitor| monitor.pace()) else {
            return;
        };
        let known = self.model.facts().learned.pace.unwrap_or_default();
        let pace = seen.or(known);
        if pace.differs_from(known) {
            self.pace_is_new = true;
            self.model.learn(|facts| facts.learned.pace = Some(pace));
        }
    }
}
