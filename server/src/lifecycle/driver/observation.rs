//! Looks at the worker from outside, and what comes of them.

use std::{
    num::NonZero,
    sync::{Arc, LazyLock},
    thread,
};

use super::ModelDriver;
use crate::{
    catalog::LearnedPace,
    lifecycle::file_watch::LoadedFiles,
    model::{
        Failure, ModelMemory, StateKind,
        state::{Event, StateGroup},
    },
};

/// Processors that this process may use, and so may its workers.
static PROCESSORS: LazyLock<u32> = LazyLock::new(|| {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    u32::try_from(processors).unwrap_or(u32::MAX)
});

impl ModelDriver {
    /// Looks at the worker: progress and stalls of a load, hangs of an engine, memory.
    pub(super) fn observe(&mut self) {
        let Some(memory) = self.read_worker() else {
            return;
        };
        self.record_memory(memory);
        self.record_pace();
        let state = self.state.kind();
        let fault = self.fault(state);
        if self.load_progressed(state) {
            self.publish_progress();
        } else {
            self.publish_figures();
        }
        match fault {
            Some(failure) => self.fail(failure),
            None if state == StateKind::Ready => {
                if let Some(worker) = self.resources.worker_mut() {
                    worker.files.check(self.model.files.load_full());
                }
                self.end_idleness();
            }
            None => {}
        }
    }

    /// Reads what the worker holds, and how its device looks.
    fn read_worker(&mut self) -> Option<ModelMemory> {
        let worker = self.resources.worker_mut()?;
        let monitor = worker.monitor.as_mut()?;
        if worker.memory.is_requested() {
            // It waits for memory, and has nothing to do meanwhile.
            monitor.reset_inactivity();
        }
        monitor.observe();
        let memory = monitor.memory();
        self.published.edit().kv_blocks = monitor.kv_blocks();
        if worker.stopping.began.is_none() {
            self.observe_device();
        }
        Some(memory)
    }

    /// The failure of a worker that no longer moves, as of the last look.
    fn fault(&mut self, state: StateKind) -> Option<Failure> {
        let limits = &self.context.limits;
        let worker = self.resources.worker_mut()?;
        let occupancy = worker.occupancy();
        let monitor = worker.monitor.as_mut()?;
        match state.group() {
            StateGroup::Load(_) => {
                monitor.follow_load(limits);
                monitor.stalled(limits)
            }
            StateGroup::Serve | StateGroup::Drain => {
                let facts = self.model.facts();
                let known = facts.learned.pace.as_ref().map(|known| known.pace);
                monitor.follow_service(&occupancy, limits);
                monitor.hung(limits, known)
            }
            StateGroup::Idle | StateGroup::Retry | StateGroup::Stop => None,
        }
    }

    /// Whether the load got on since the last look.
    fn load_progressed(&mut self, state: StateKind) -> bool {
        let monitor = self.resources.monitor();
        match (state, monitor.and_then(|monitor| monitor.bytes_read())) {
            (StateKind::Loading, Some((bytes, elapsed))) => {
                let meter = &mut self.published.meter;
                meter.observe(bytes, elapsed).is_some()
            }
            _ => false,
        }
    }

    /// The worker cannot go on.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.record_prompts(&failure);
        self.apply(Event::Fault(failure));
    }

    /// The worker ends by this failure: what it had to read may be why.
    pub(super) fn record_prompts(&mut self, failure: &Failure) {
        let kind = self.state.kind().group();
        let served = matches!(kind, StateGroup::Serve | StateGroup::Drain);
        let worker = self.resources.worker();
        if let Some(monitor) = worker.and_then(|worker| worker.monitor.as_ref())
            && served
            && !self.state.is_terminating()
        {
            let engine = monitor.engine();
            if self.load.prompts.worker_ended(&engine, failure.reason) {
                tracing::warn!(
                    model = %self.model.id(),
                    reason = failure.reason.name(),
                    tokens = engine.longest_prefill_tokens,
                    refused_from = self.load.prompts.fatal().map(|fatal| fatal.tokens),
                    "a worker ended while it read a prompt that is longer than any that was read before"
                );
            }
            self.keep_prompts();
        }
    }

    /// The worker is about to read `files`, which are unknown where they cannot be looked at: what happened to prompts with
    /// others says nothing.
    pub(super) fn files_found(&mut self, files: Option<LoadedFiles>) {
        let digest = files.as_ref().map(LoadedFiles::digest);
        if self.load.prompts.read_from(digest.unwrap_or_default()) {
            self.keep_prompts();
        }
        self.model.files.store(files.map(Arc::new));
    }

    /// What is known of prompts now is shown, and written down.
    pub(super) fn keep_prompts(&self) {
        let fatal = self.load.prompts.known();
        let kept = self.load.prompts.to_keep();
        let mut is_new = false;
        self.model.update_facts(|facts| {
            facts.fatal_prompt = fatal;
            is_new = facts.learned.prompts != kept;
            facts.learned.prompts.clone_from(&kept);
        });
        if is_new {
            self.save_learned();
        }
    }

    /// Takes note of how quickly the engine works.
    fn record_pace(&mut self) {
        let device = self.device_name();
        let Some(worker) = self.resources.worker_mut() else {
            return;
        };
        let Some(seen) = worker.monitor.as_ref().and_then(|monitor| monitor.pace()) else {
            return;
        };
        let facts = self.model.facts();
        let known = facts.learned.pace.as_ref();
        let known = known.map(|known| known.pace).unwrap_or_default();
        let pace = seen.or(known);
        if pace.differs_from(known) {
            worker.pace_is_new = true;
            let learned = LearnedPace {
                pace,
                device: Some(device),
                processors: *PROCESSORS,
            };
            self.model
                .update_facts(|facts| facts.learned.pace = Some(learned.clone()));
        }
    }

    /// A worker was started: what was seen elsewhere does not hold where it is.
    pub(super) fn drop_figures_of_other_places(&mut self) {
        let device = self.device_name();
        if self.load.prompts.move_to(&device) {
            self.keep_prompts();
        }
        let holds = |known: &LearnedPace| known.is_of(&device, *PROCESSORS);
        if !self.model.facts().learned.pace.as_ref().is_some_and(holds) {
            self.model.update_facts(|facts| facts.learned.pace = None);
        }
    }
}
