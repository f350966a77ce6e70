//! What a model keeps to while it lives: its memory, its limits, and what is remembered of it.

use std::time::{Duration, SystemTime};

use super::{Driver, PlacementState};
use crate::{
    catalog::{CatalogEntry, LearnedMemory, Note},
    lifecycle::{
        admission::AdmissionLimits,
        eviction::{Evictor, may_be_evicted},
        fatal_prompt::PromptHistory,
        files::Change,
        ledger::with_headroom,
        memory::{Need, Reservation},
    },
    model::{
        Failure, LoadOutcome, LoadRecord, Memory, Metadata, Source, Spec, Stage, SuspendCause,
        Suspension,
        state::{Cause, Event},
    },
    worker::{self, Inspection},
};

impl Driver {
    /// Takes note of what the worker tells of the model.
    pub(super) fn learn(&self, metadata: Metadata) {
        let learned = Metadata {
            // The worker sees one device only, which is the first to it.
            device: self.device_name(),
            ..self.with_revision(metadata)
        };
        self.model.learn(|facts| {
            let metadata = &mut facts.learned.metadata;
            let load_duration = metadata.load_duration;
            let loaded = metadata.loaded;
            *metadata = Metadata {
                load_duration,
                loaded,
                ..learned.clone()
            };
        });
    }

    /// Asks for the memory that the model needs. The answer comes with [`super::admitted`].
    pub(super) fn request_memory(&mut self, inspection: Box<Inspection>) {
        let spec = &self.spec;
        let learned = self.model.facts().learned.clone();
        let gpu = self.on_gpu.as_ref().map(|on| on.gpu.clone());
        let (host, device) = self.context.known_need(spec, &learned, gpu.as_ref());
        let device = device.unwrap_or(inspection.need_device_bytes);
        let need = Need {
            host: host.unwrap_or(inspection.need_host_bytes),
            device: gpu.map(|gpu| (gpu, device)),
        };
        let evictor = Evictor::for_model(&self.context, spec.priority, self.may_evict);
        let memory = self.context.memory.clone();
        let id = self.model.id().clone();
        self.inspection = Some(inspection);
        self.admission = Some(Box::pin(memory.admit(id, need, evictor)));
    }

    /// The memory was given, or not.
    pub(super) fn memory_decided(&mut self, decision: Result<Reservation, Failure>) {
        self.admission = None;
        let event = match decision {
            Ok(reservation) => {
                self.confine(&reservation);
                self.model.set_admitted(reservation.admitted());
                self.reservation = Some(reservation);
                if let PlacementState::Held { pending, .. } = &mut self.placement {
                    *pending = None;
                }
                if let (Some(monitor), Some(inspection)) = (&mut self.monitor, &self.inspection) {
                    monitor.begin_load(inspection);
                }
                Event::Inspected
            }
            Err(failure) => Event::Fault(failure),
        };
        self.apply(event);
    }

    /// Lets the worker have what was admitted and no more: what goes beyond fails there, and nowhere else.
    fn confine(&self, reservation: &Reservation) {
        let Some(pid) = self.publisher.draft().worker_pid else {
            return;
        };
        if self.on_gpu.is_some() {
            // CUDA maps far more than it uses.
            return;
        }
        // What the last life held says what to expect, not what this one may come to need.
        let hinted = self
            .spec
            .memory_hint
            .is_some_and(|hint| hint.host_bytes > 0);
        let inspected = match &self.inspection {
            Some(inspection) if !hinted => with_headroom(inspection.need_host_bytes),
            _ => 0,
        };
        if let Err(error) = worker::limit_memory(pid, reservation.admitted().max(inspected)) {
            tracing::warn!(model = %self.model.id(), %error, "cannot limit the worker's memory");
        }
    }

    /// Takes note of what the worker was seen to hold.
    pub(super) fn record_memory(&mut self, memory: Memory) {
        self.publisher.edit().memory = Some(memory);
        if let Some(reservation) = &self.reservation {
            reservation.measure(self.with_footprint(memory));
        }
        if self.state.stage().is_loading() || self.state.stage() == Stage::Ready {
            self.peak.host_bytes = self.peak.host_bytes.max(memory.host_bytes);
            let device_bytes = self.device_footprint(memory.device_bytes);
            self.peak.device_bytes = self.peak.device_bytes.max(device_bytes);
        }
    }

    /// What the worker holds now is what it claims from now on.
    pub(super) fn settle(&self) {
        if let (Some(reservation), Some(memory)) =
            (&self.reservation, self.publisher.draft().memory)
        {
            reservation.settle(self.with_footprint(memory));
        }
    }

    /// `memory`, with all that the model has of its device.
    fn with_footprint(&self, memory: Memory) -> Memory {
        Memory {
            device_bytes: self.device_footprint(memory.device_bytes),
            ..memory
        }
    }

    /// Unloads the model if nobody uses it, nobody did for the time `idle`, and the rules allow it.
    pub(super) fn evict(&mut self, cause: SuspendCause, message: String, idle: Duration) -> bool {
        let allowed = match cause {
            SuspendCause::Evicted => may_be_evicted(&self.context, &self.model),
            SuspendCause::Idle => !self.model.facts().entry.spec.required && !self.is_held(),
        };
        let serves = self.state.stage() == Stage::Ready && !self.state.is_terminating();
        if !allowed || !serves || !self.model.gate.close_if_idle(idle) {
            return false;
        }
        tracing::info!(model = %self.model.id(), %message, "model.evict");
        let id = self.model.id();
        self.context.metrics.evicted(id.as_str(), cause);
        let suspension = Suspension { cause, message };
        self.context
            .catalog
            .note(id, Note::Suspended(Some(suspension.clone())));
        self.publisher.edit().suspended = Some(suspension);
        self.drain_timeout = Duration::ZERO;
        self.apply(Event::Unload(match cause {
            SuspendCause::Evicted => Cause::Evicted,
            SuspendCause::Idle => Cause::Idle,
        }));
        true
    }

    /// Unloads a model that nobody has used for its idle time-out.
    pub(super) fn end_idleness(&mut self) {
        let Some(limit) = self.model.facts().entry.spec.idle_timeout else {
            return;
        };
        let idle = self.model.gate.idle_since().map(|since| since.elapsed());
        if idle.is_some_and(|idle| idle >= limit) {
            let message = format!(
                "unloaded because nobody used it for {:.1} s, its idle_timeout; load it again when it is needed",
                limit.as_secs_f64()
            );
            self.evict(SuspendCause::Idle, message, limit);
        }
    }

    /// Somebody wants the model again, or nobody does any more. Says whether it was suspended.
    pub(super) fn unsuspend(&mut self) -> bool {
        let suspended = self.publisher.edit().suspended.take().is_some();
        if suspended {
            let id = self.model.id();
            self.context.catalog.note(id, Note::Suspended(None));
        }
        suspended
    }

    /// The entry was changed: what can hold from the next request on does, and the rest from the next start
    /// of a worker.
    pub(super) fn entry_changed(&mut self, entry: CatalogEntry) {
        if !self.model.set_entry(entry) {
            return;
        }
        let spec = self.model.facts().entry.spec.clone();
        if !spec.required {
            self.context.settled(self.model.id());
        }
        self.state.renew(spec.restart_policy(), is_remote(&spec));
        if let Some(queue) = &self.queue {
            queue.adjust(spec.generation_defaults.clone(), self.admission_limits());
        }
    }

    /// The attempt that begins now is made with the newest spec.
    pub(super) fn adopt_spec(&mut self) {
        let spec = self.model.facts().entry.spec.clone();
        if !self.spec.builds_the_same_as(&spec) {
            self.prompts = PromptHistory::default();
            self.model.learn(|facts| facts.learned.pace = None);
        }
        self.spec = spec;
        self.state
            .renew(self.spec.restart_policy(), is_remote(&self.spec));
    }

    /// How many requests may be on the queue.
    pub(super) fn admission_limits(&self) -> AdmissionLimits {
        let spec = self.model.facts().entry.spec.clone();
        let limits = &self.context.limits;
        let wanted = spec.max_concurrency.unwrap_or(limits.max_concurrency);
        AdmissionLimits {
            max_concurrency: wanted.min(self.engine_concurrency),
            max_queue: spec.max_queue.unwrap_or(limits.max_queue),
        }
    }

    /// Takes note of how a load ended, for good.
    pub(super) fn record_load(&mut self, record: &LoadRecord) {
        let memory = self.publisher.draft().memory.map(|ready| LearnedMemory {
            ready,
            peak: self.peak,
            spec: (*self.spec).clone(),
            device: self.device_name(),
        });
        let last_used = self.model.totals().last_used;
        self.model.learn(|facts| {
            let learned = &mut facts.learned;
            match &record.outcome {
                LoadOutcome::Succeeded => {
                    learned.loads_succeeded += 1;
                    learned.memory.clone_from(&memory);
                }
                LoadOutcome::Failed(failure) => {
                    learned.loads_failed += 1;
                    learned.last_failure = Some((failure.clone(), SystemTime::now()));
                }
                LoadOutcome::Cancelled => {}
            }
            learned.last_used = last_used.or(learned.last_used);
            learned.record(record);
        });
        self.save_learned();
    }

    /// The worker has gone: the highest that it was seen to hold is kept for the next time.
    pub(super) fn record_peak(&mut self) {
        let peak = std::mem::take(&mut self.peak);
        let last_used = self.model.totals().last_used;
        let pace_is_new = std::mem::take(&mut self.pace_is_new);
        let mut changed = false;
        self.model.learn(|facts| {
            let learned = &mut facts.learned;
            changed = pace_is_new || (last_used.is_some() && learned.last_used != last_used);
            learned.last_used = last_used.or(learned.last_used);
            if let Some(memory) = &mut learned.memory
                && (memory.peak.host_bytes < peak.host_bytes
                    || memory.peak.device_bytes < peak.device_bytes)
            {
                memory.peak.host_bytes = memory.peak.host_bytes.max(peak.host_bytes);
                memory.peak.device_bytes = memory.peak.device_bytes.max(peak.device_bytes);
                changed = true;
            }
        });
        if changed {
            self.save_learned();
        }
    }

    fn save_learned(&self) {
        let learned = self.model.facts().learned.clone();
        let note = Note::Learned(Box::new(learned));
        self.context.catalog.note(self.model.id(), note);
    }

    /// The model's files were looked at, and this is what has become of them, if that can be told.
    pub(super) fn files_seen(&self, seen: Option<Change>) {
        let Some(change) = seen else { return };
        if self.model.facts().files_changed == change {
            return;
        }
        tracing::info!(model = %self.model.id(), change, "model.files");
        self.model
            .learn(|facts| facts.files_changed.clone_from(&change));
    }

    pub(super) fn is_held(&self) -> bool {
        self.context.holders.is_held(self.model.id())
    }
}

/// Whether the files of a model of `spec` have to be downloaded.
pub(super) fn is_remote(spec: &Spec) -> bool {
    matches!(spec.source, Source::HuggingFace(_))
}
