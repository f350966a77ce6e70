//! What an engine is built from.

use std::path::Path;

use serde::Serialize;

use super::Spec;
use crate::model::{
    Adapter, DataType, Format, KvCache, ModelKind, Quantization, RequestedDevice, Source,
};

/// What an engine is built from: what makes a worker, its prepared weights and what it was seen to need those of
/// another engine once it differs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are those of Spec")]
pub struct EngineInputs<'a> {
    pub source: &'a Source,
    pub kind: Option<ModelKind>,
    pub format: Option<Format>,
    pub device: Option<&'a RequestedDevice>,
    pub dtype: Option<DataType>,
    pub quantization: Option<&'a Quantization>,
    pub adapters: &'a [Adapter],
    pub context_length: Option<u32>,
    pub chat_template: &'a str,
    pub tokenizer: Option<&'a Path>,
    pub kv_cache: Option<KvCache>,
}

impl Spec {
    /// Whether an engine that was built from `self` serves `other` too: they differ at most in what holds
    /// from the next request on.
    pub fn builds_the_same_as(&self, other: &Self) -> bool {
        self.engine_inputs() == other.engine_inputs()
    }

    /// What the engine is built from. A field that is new has to be put on one side or the other.
    pub fn engine_inputs(&self) -> EngineInputs<'_> {
        let Self {
            source,
            kind,
            format,
            device,
            dtype,
            quantization,
            adapters,
            context_length,
            chat_template,
            tokenizer,
            kv_cache,
            display_name: _,
            description: _,
            provider: _,
            languages: _,
            capabilities: _,
            labels: _,
            max_concurrency: _,
            max_queue: _,
            generation_defaults: _,
            memory_hint: _,
            idle_timeout: _,
            pinned: _,
            required: _,
            preload: _,
            priority: _,
            load_on_demand: _,
            restart_policy: _,
        } = self;
        EngineInputs {
            source,
            kind: *kind,
            format: *format,
            device: device.as_ref(),
            dtype: *dtype,
            quantization: quantization.as_ref(),
            adapters,
            context_length: *context_length,
            chat_template,
            tokenizer: tokenizer.as_deref(),
            kv_cache: *kv_cache,
        }
    }
}
