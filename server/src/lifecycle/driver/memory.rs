//! What a model keeps to while it lives: its memory, its limits, and what is remembered of it.

use std::time::{Duration, SystemTime};

use super::{
    Driver,
    phases::{HostedWorker, WorkerMemory},
};
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
    pub(super) fn record_metadata(&self, metadata: Metadata) {
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

    /// Asks for the memory that the model needs. The answer comes as an event of the phase.
    pub(super) fn request_memory(&mut self, inspection: Box<Inspection>) {
        let spec = &self.load.spec;
        let learned = self.model.facts().learned.clone();
        let gpu = self.phase.gpu().map(|on| on.gpu.clone());
        let (host, device) = self.context.known_need(spec, &learned, gpu.as_ref());
        let device = device.unwrap_or(inspection.need_device_bytes);
        let need = Need {
            host: host.unwrap_or(inspection.need_host_bytes),
            device: gpu.map(|gpu| (gpu, device)),
        };
        let evictor = Evictor::for_model(&self.context, spec.priority, self.load.may_evict);
        let memory = self.context.memory.clone();
        let id = self.model.id().clone();
        if let Some(worker) = self.phase.worker_mut() {
            worker.memory = WorkerMemory::Requested {
                inspection,
                decision: Box::pin(memory.admit(id, need, evictor)),
            };
        }
    }

    /// The memory was given, or not.
    pub(super) fn memory_decided(&mut self, decision: Result<Reservation, Failure>) {
        let Some(worker) = self.phase.worker_mut() else {
            return;
        };
        let inspection = worker.memory.cancel_request();
        let event = match decision {
            Ok(reservation) => {
                let admitted = reservation.admitted();
                self.model.set_admitted(admitted);
                worker.reserve(reservation);
                if let Some(inspection) = inspection {
                    if let Some(monitor) = &mut worker.monitor {
                        monitor.begin_load(&inspection);
                    }
                    self.confine(admitted, &inspection);
                }
                Event::Inspected
            }
            Err(failure) => Event::Fault(failure),
        };
        self.apply(event);
    }

    /// Lets the worker have what was admitted and no more: what goes beyond fails there, and nowhere else.
    fn confine(&self, admitted: u64, inspection: &Inspection) {
        let Some(pid) = self.publication.draft().worker_pid else {
            return;
        };
        if self.phase.gpu().is_some() {
            // CUDA maps far more than it uses.
            return;
        }
        // What the last worker held says what to expect, not what this one may come to need.
        let hint = self.load.spec.memory_hint;
        let hinted = hint.is_some_and(|hint| hint.host_bytes > 0);
        let inspected = if hinted {
            0
        } else {
            with_headroom(inspection.need_host_bytes)
        };
        if let Err(error) = worker::limit_memory(pid, admitted.max(inspected)) {
            tracing::warn!(model = %self.model.id(), %error, "cannot limit the worker's memory");
        }
    }

    /// Takes note of what the worker was seen to hold.
    pub(super) fn record_memory(&mut self, memory: Memory) {
        self.publication.edit().memory = Some(memory);
        let with_footprint = self.with_footprint(memory);
        let stage = self.state.stage();
        let Some(worker) = self.phase.worker_mut() else {
            return;
        };
        if let Some(reservation) = worker.memory.reservation() {
            reservation.measure(with_footprint);
        }
        if stage.is_loading() || stage == Stage::Ready {
            let peak = &mut worker.peak;
            peak.host_bytes = peak.host_bytes.max(memory.host_bytes);
            peak.device_bytes = peak.device_bytes.max(with_footprint.device_bytes);
        }
    }

    /// The model is loaded, and its worker was seen to hold this `now`: that is what it has reserved from now on.
    pub(super) fn settle_memory(&mut self, now: Option<Memory>) {
        if let Some(memory) = now {
            self.record_memory(memory);
        }
        self.record_device_use();
        let Some(memory) = self.publication.draft().memory else {
            return;
        };
        self.record_memory(memory);
        let worker = self.phase.worker();
        if let Some(reservation) = worker.and_then(|worker| worker.memory.reservation()) {
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
        self.publication.edit().suspended = Some(suspension);
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
        let suspended = self.publication.edit().suspended.take().is_some();
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
        if let Some(worker) = self.phase.worker()
            && let Some(queue) = &worker.queue
        {
            let limits = self.admission_limits(worker);
            queue.adjust(spec.generation_defaults.clone(), limits);
        }
    }

    /// The attempt that begins now is made with the newest spec.
    pub(super) fn adopt_spec(&mut self) {
        let spec = self.model.facts().entry.spec.clone();
        if !self.load.spec.builds_the_same_as(&spec) {
            self.load.prompts = PromptHistory::restore(None, &spec);
            self.model.learn(|facts| facts.learned.pace = None);
            self.keep_prompts();
        }
        self.state.renew(spec.restart_policy(), is_remote(&spec));
        self.load.spec = spec;
    }

    /// How many requests may run on `worker`, and wait for it.
    pub(super) fn admission_limits(&self, worker: &HostedWorker) -> AdmissionLimits {
        let spec = self.model.facts().entry.spec.clone();
        let limits = &self.context.limits;
        let wanted = spec.max_concurrency.unwrap_or(limits.max_concurrency);
        AdmissionLimits {
            max_concurrency: wanted.min(worker.engine_concurrency),
            max_queue: spec.max_queue.unwrap_or(limits.max_queue),
        }
    }

    /// Takes note of how a load ended, for good.
    pub(super) fn record_load(&mut self, record: &LoadRecord) {
        let memory = self.publication.draft().memory.map(|ready| LearnedMemory {
            ready,
            peak: self.phase.worker().map_or(ready, |worker| worker.peak),
            spec: (*self.load.spec).clone(),
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
    pub(super) fn record_peak(&self, worker: &HostedWorker) {
        let HostedWorker {
            peak, pace_is_new, ..
        } = *worker;
        let last_used = self.model.totals().last_used;
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

    pub(super) fn save_learned(&self) {
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
