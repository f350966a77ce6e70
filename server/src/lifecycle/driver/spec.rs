//! The spec that a model lives by: what a change of its entry means at once, and what the next worker is started with.

use std::sync::Arc;

use super::{ModelDriver, resources::HostedWorker};
use crate::{
    lifecycle::{admission::AdmissionLimits, fatal_prompt::PromptHistory},
    model::{Source, Spec},
};

impl ModelDriver {
    /// The entry may have been changed: what can hold from the next request on does, and the rest from the next start
    /// of a worker.
    pub(super) fn adapt_to_entry(&mut self) {
        let spec = self.model.facts().entry.spec.clone();
        if !spec.required {
            self.context.record_first_outcome(self.model.id());
        }
        self.state
            .set_policy(spec.restart_policy(), is_remote(&spec));
        if let Some(worker) = self.resources.worker()
            && let Some(queue) = &worker.queue
        {
            let limits = self.admission_limits(worker);
            queue.adjust(spec.generation_defaults.clone(), limits);
        }
    }

    /// What the next attempt is made with: the newest spec, but where what was inspected builds another engine.
    pub(super) fn next_spec(&self) -> Arc<Spec> {
        let newest = self.model.facts().entry.spec.clone();
        let inspected = self.load.inspected.clone();
        let differs = |inspected: &Arc<Spec>| !inspected.builds_the_same_as(&newest);
        inspected.filter(differs).unwrap_or(newest)
    }

    /// The attempt that begins now is made with its spec.
    pub(super) fn adopt_spec(&mut self) {
        let spec = self.next_spec();
        self.load.inspected = None;
        if !self.load.spec.builds_the_same_as(&spec) {
            self.load.prompts = PromptHistory::restore(None, &spec);
            self.model.update_facts(|facts| facts.learned.pace = None);
            self.keep_prompts();
        }
        let policy = self.model.facts().entry.spec.restart_policy();
        self.state.set_policy(policy, is_remote(&spec));
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
}

/// Whether the files of a model of `spec` have to be downloaded.
pub(super) fn is_remote(spec: &Spec) -> bool {
    matches!(spec.source, Source::HuggingFace(_))
}
