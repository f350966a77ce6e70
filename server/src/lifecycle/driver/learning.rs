//! What loads teach about a model, and what is kept of it in the catalog for the next one.

use std::time::SystemTime;

use super::{ModelDriver, resources::HostedWorker};
use crate::{
    catalog::{DeferredWrite, LearnedMemory},
    lifecycle::file_watch::FilesChange,
    model::{LoadOutcome, LoadRecord, ModelMetadata},
};

impl ModelDriver {
    /// Takes note of what the worker reports of the model.
    pub(super) fn record_metadata(&self, metadata: ModelMetadata) {
        let learned = ModelMetadata {
            // The worker sees one device only, which is the first to it.
            device: Some(self.device_name()),
            ..self.with_revision(metadata)
        };
        self.model.update_facts(|facts| {
            let metadata = &mut facts.learned.metadata;
            let load_duration = metadata.load_duration;
            let loaded = metadata.loaded;
            *metadata = ModelMetadata {
                load_duration,
                loaded,
                ..learned.clone()
            };
        });
    }

    /// Takes note of how long sequences may be, if not as the worker has reported before.
    pub(super) fn record_context(&self, context_length: Option<u32>) {
        let Some(context_length) = context_length else {
            return;
        };
        self.model
            .update_facts(|facts| facts.learned.metadata.context_length = context_length);
    }

    /// Takes note of how a load ended, for good.
    pub(super) fn record_load(&mut self, record: &LoadRecord) {
        let memory = self.published.upcoming().memory.map(|ready| LearnedMemory {
            ready,
            peak: self.resources.worker().map_or(ready, |worker| worker.peak),
            spec: (*self.load.spec).clone(),
            device: self.device_name(),
        });
        let last_used = self.model.totals().last_used;
        self.model.update_facts(|facts| {
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
        self.model.update_facts(|facts| {
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
        let write = DeferredWrite::Learned(Box::new(learned));
        self.context.catalog.defer_write(self.model.id(), write);
    }

    /// The model's files were looked at, and this is what has become of them, if that is known.
    pub(super) fn files_seen(&self, seen: Option<FilesChange>) {
        let Some(change) = seen else { return };
        if self.model.facts().files_changed == change {
            return;
        }
        tracing::info!(model = %self.model.id(), change, "model.files");
        self.model
            .update_facts(|facts| facts.files_changed.clone_from(&change));
    }
}
