//! Between the messages of `hangar.worker.v1` and what they mean. The only file that knows what their fields are
//! for, so that nothing of the protocol is filled in or looked at elsewhere.

use std::time::Duration;

use hangar_client::v1;
use hangar_worker_protocol::{
    FailureReason, PROTOCOL_VERSION,
    v1::{self as protocol, worker_config::Source},
};

use super::{
    call::{GenerateCall, RequestBounds},
    config::{ModelFiles, WorkerConfig},
    inspection::{Inspection, ProgressMeasure},
    stats::EngineStats,
};
use crate::{
    model::{
        ConversationSupport, Failure, GenerationSettings, KvBlocks, ModelMetadata, Pace, Reason,
        Support,
    },
    wire,
};

/// What a worker is to host, as a message.
pub(super) fn worker_config(config: &WorkerConfig) -> protocol::WorkerConfig {
    let common = &config.common;
    let prepared = config.prepared.clone().unwrap_or_default();
    let spec = v1::ModelSpec {
        // Where its files are, and on which device it is, belongs to the run.
        source: None,
        device: String::new(),
        ..wire::spec_message(&config.spec.for_engine())
    };
    protocol::WorkerConfig {
        protocol_version: PROTOCOL_VERSION,
        model_id: config.model.to_string(),
        socket_path: config.socket.display().to_string(),
        server_pid: std::process::id(),
        source: Some(source(&config.files)),
        cache_dir: common.cache_dir.display().to_string(),
        spec: Some(spec),
        device: config.device.to_string(),
        max_concurrency: config.max_concurrency,
        asked_concurrency: config.spec.max_concurrency.unwrap_or_default(),
        otlp_endpoint: common.otlp_endpoint.clone().unwrap_or_default(),
        log_filter: common.log_filter.clone(),
        trace_sample_ratio: common.trace_sample_ratio,
        prepared_dir: prepared.directory.display().to_string(),
        prepared_verified: prepared.verified,
        prepared_capacity: prepared.capacity,
    }
}

fn source(files: &ModelFiles) -> Source {
    match files {
        ModelFiles::Path(path) => Source::Path(path.to_string_lossy().into_owned()),
        ModelFiles::Demo => Source::Demo(v1::DemoSource {}),
    }
}

/// What a worker has found.
pub(super) fn inspection(message: protocol::ModelInspection) -> Inspection {
    let asks_for_prepared = message.prepared() != protocol::PreparedWeights::Unspecified;
    Inspection {
        progress_measure: match message.progress_measure() {
            protocol::ProgressMeasure::Unspecified => None,
            protocol::ProgressMeasure::RssFile => Some(ProgressMeasure::RssFile),
            protocol::ProgressMeasure::ReadChars => Some(ProgressMeasure::ReadChars),
        },
        metadata: metadata(message.metadata.unwrap_or_default()),
        weight_bytes: message.weight_bytes,
        need_host_bytes: message.need_host_bytes,
        roomy_host_bytes: message.roomy_host_bytes.max(message.need_host_bytes),
        need_device_bytes: message.need_device_bytes,
        max_concurrency: message.max_concurrency.max(1),
        prepared_key: asks_for_prepared.then_some(message.prepared_key),
    }
}

/// What a worker says about its model.
pub(super) fn metadata(message: v1::ModelMetadata) -> ModelMetadata {
    ModelMetadata {
        kind: wire::read_kind(message.kind()),
        dtype: wire::read_dtype(message.dtype()),
        format: wire::read_format(message.format()),
        architecture: message.architecture,
        model_name: message.model_name,
        base_model: message.base_model,
        tokenizer_id: message.tokenizer_id,
        input_modalities: message.input_modalities,
        output_modalities: message.output_modalities,
        parameter_count: message.parameter_count,
        quantization: message.quantization,
        context_length: message.context_length,
        trained_context_length: message.trained_context_length,
        vocabulary_size: message.vocabulary_size,
        size_bytes: message.size_bytes,
        // It sees one device only: which one that is the server knows.
        device: None,
        is_lora: message.is_lora,
        lora_rank: message.lora_rank,
        adapters: message.adapters,
        resolved_revision: message.resolved_revision,
        prepared: message.prepared,
        embedding_size: message.embedding_size,
        conversation: message.conversation.map(conversation),
        load_duration: None,
        loaded: None,
    }
}

fn conversation(message: v1::ConversationSupport) -> ConversationSupport {
    let support = |support: Option<v1::Support>| {
        let v1::Support { supported, why_not } = support.unwrap_or_default();
        Support { supported, why_not }
    };
    ConversationSupport {
        messages: support(message.messages),
        tools: support(message.tools),
        images: support(message.images),
        thinking: support(message.thinking),
    }
}

/// Why a worker cannot serve its model.
pub(super) fn failure(message: protocol::WorkerFailure) -> Failure {
    let reason = match message.known_reason() {
        FailureReason::ModelUnusable => Reason::ModelUnusable,
        FailureReason::DeviceUnavailable => Reason::DeviceUnavailable,
        FailureReason::InsufficientMemory => Reason::InsufficientMemory,
        FailureReason::StorageFull => Reason::StorageFull,
        FailureReason::Internal => Reason::Internal,
    };
    Failure::new(reason, message.message)
}

/// What a worker says of its engine.
pub(super) fn stats(message: &protocol::WatchStatsResponse) -> EngineStats {
    EngineStats {
        steps: message.steps,
        in_flight: message.in_flight,
        prefill_tokens: message.prefill_tokens,
        device_bytes: message.device_bytes,
        kv_blocks: KvBlocks {
            used: message.kv_blocks_used,
            total: message.kv_blocks_total,
        },
        longest_prefill_tokens: message.longest_prefill_tokens,
        longest_prefilled_tokens: message.longest_prefilled_tokens,
        pace: message.pace.map(pace),
        cpu_time: message
            .engine_cpu_time
            .and_then(|time| Duration::try_from(time).ok())
            .unwrap_or_default(),
    }
}

/// How an engine works. A rate that is none is not known.
fn pace(message: v1::Pace) -> Pace {
    let rate = |rate: Option<f64>| rate.filter(|rate| rate.is_finite() && *rate > 0.0);
    Pace {
        prompt_tokens_per_second: rate(message.prompt_tokens_per_second),
        generated_tokens_per_second: rate(message.generated_tokens_per_second),
    }
}

/// A request for text.
pub(super) fn generate(call: GenerateCall) -> protocol::GenerateRequest {
    let GenerationSettings { sampling, stop } = call.settings;
    let request = v1::GenerateRequest {
        sampling: Some(wire::sampling_message(&sampling)),
        stop,
        ..call.request
    };
    protocol::GenerateRequest {
        request: Some(request),
        queued: wire::duration_message(call.queued),
        default_max_tokens: call.default_max_tokens.unwrap_or_default(),
        bounds: Some(bounds(call.bounds)),
    }
}

/// What a request is held against.
pub(super) fn bounds(bounds: RequestBounds) -> protocol::RequestBounds {
    let (tokens, reason) = bounds.fatal_prompt.unzip();
    protocol::RequestBounds {
        time_left: bounds.time_left.and_then(wire::duration_message),
        fatal_prompt_tokens: tokens.unwrap_or_default(),
        fatal_reason: reason
            .map(|reason| reason.name().to_owned())
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn only_a_load_that_asks_for_prepared_weights_has_a_key() {
        for (prepared, key) in [
            (protocol::PreparedWeights::Unspecified, None),
            (protocol::PreparedWeights::Hit, Some("k")),
            (protocol::PreparedWeights::Miss, Some("k")),
        ] {
            let message = protocol::ModelInspection {
                prepared: prepared.into(),
                prepared_key: "k".to_owned(),
                ..protocol::ModelInspection::default()
            };
            assert_eq!(inspection(message).prepared_key.as_deref(), key);
        }
    }
}
