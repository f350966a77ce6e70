//! Specs.

use hangar_client::v1;

use super::{duration, sampling};
use crate::{
    model::{GenerationDefaults, MemoryHint, RestartMode, RestartPolicy, Sampling, Source, Spec},
    wire::{adapter, dtype, format, kind, kv_cache},
};

/// How a model is to be run.
pub(in crate::rpc) fn spec(spec: &Spec) -> v1::ModelSpec {
    v1::ModelSpec {
        source: Some(source(&spec.source)),
        display_name: spec.display_name.clone(),
        description: spec.description.clone(),
        provider: spec.provider.clone(),
        languages: spec.languages.clone(),
        capabilities: spec.capabilities.clone(),
        labels: spec.labels.clone().into_iter().collect(),
        kind: kind(spec.kind).into(),
        format: format(spec.format).into(),
        device: text(spec.device.as_ref()),
        dtype: dtype(spec.dtype).into(),
        context_length: spec.context_length.unwrap_or_default(),
        max_concurrency: spec.max_concurrency.unwrap_or_default(),
        max_queue: spec.max_queue,
        generation_defaults: (spec.generation_defaults != GenerationDefaults::default())
            .then(|| generation_defaults(&spec.generation_defaults)),
        restart_policy: spec.restart_policy.map(restart_policy),
        quantization: text(spec.quantization.as_ref()),
        adapters: spec.adapters.iter().map(adapter).collect(),
        chat_template: spec.chat_template.clone(),
        tokenizer: text(spec.tokenizer.as_ref().map(|path| path.display()).as_ref()),
        memory_hint: spec.memory_hint.map(memory_hint),
        idle_timeout: spec.idle_timeout.and_then(duration),
        pinned: spec.pinned,
        required: spec.required,
        preload: spec.preload,
        priority: spec.priority,
        load_on_demand: spec.load_on_demand,
        kv_cache: spec.kv_cache.map(kv_cache),
    }
}

fn source(source: &Source) -> v1::ModelSource {
    let source = match source {
        Source::Path(path) => v1::model_source::Source::Path(path.display().to_string()),
        Source::HuggingFace(hub) => v1::model_source::Source::HuggingFace(v1::HuggingFaceSource {
            repository: hub.repository.to_string(),
            revision: hub.revision.clone(),
            files: hub.files.clone(),
        }),
        Source::Demo => v1::model_source::Source::Demo(v1::DemoSource {}),
    };
    v1::ModelSource {
        source: Some(source),
    }
}

/// A value as it is written; empty where none is given.
fn text<T: ToString>(value: Option<&T>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

fn memory_hint(hint: MemoryHint) -> v1::MemoryHint {
    v1::MemoryHint {
        host_bytes: hint.host_bytes,
        device_bytes: hint.device_bytes,
    }
}

fn generation_defaults(defaults: &GenerationDefaults) -> v1::GenerationDefaults {
    v1::GenerationDefaults {
        sampling: (defaults.sampling != Sampling::default()).then(|| sampling(&defaults.sampling)),
        max_tokens: defaults.max_tokens.unwrap_or_default(),
        stop: defaults.stop.clone(),
    }
}

fn restart_policy(policy: RestartPolicy) -> v1::RestartPolicy {
    let mode = match policy.mode {
        RestartMode::Never => v1::RestartMode::Never,
        RestartMode::OnFailure => v1::RestartMode::OnFailure,
        RestartMode::Always => v1::RestartMode::Always,
    };
    v1::RestartPolicy {
        mode: mode.into(),
        max_attempts: policy.max_attempts,
        initial_backoff: duration(policy.initial_backoff),
        max_backoff: duration(policy.max_backoff),
        stable_period: duration(policy.stable_period),
    }
}
