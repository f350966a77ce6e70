//! Messages from and to the types of [`crate::model`], for both the public API and the workers.

mod kv_cache;
mod pace;

use std::time::{Duration, SystemTime};

use hangar_client::v1;

use crate::catalog::Learned;
use crate::model::{
    Adapter, DataType, Failure, Format, GenerationDefaults, LoadOutcome, LoadRecord,
    Memory, Metadata, ModelKind, Phase, Progress, RestartMode, RestartPolicy, Sampling, Source,
    Spec, Stage, Status, SuspendCause, Suspension, Switch, SwitchOutcome, SwitchStrategy,
};

pub use kv_cache::kv_cache;

/// What is known about a model from `source`.
pub fn metadata_message(
    metadata: &Metadata,
    source: &Source,
    last_used: Option<SystemTime>,
) -> v1::ModelMetadata {
    v1::ModelMetadata {
        architecture: metadata.architecture.clone(),
        model_name: metadata.model_name.clone(),
        base_model: metadata.base_model.clone(),
        tokenizer_id: metadata.tokenizer_id.clone(),
        is_lora: metadata.is_lora,
        lora_rank: metadata.lora_rank,
        adapters: metadata.adapters.clone(),
        kind: kind(metadata.kind).into(),
        input_modalities: metadata.input_modalities.clone(),
        output_modalities: metadata.output_modalities.clone(),
        parameter_count: metadata.parameter_count,
        dtype: dtype(metadata.dtype).into(),
        quantization: metadata.quantization.clone(),
        context_length: metadata.context_length,
        vocabulary_size: metadata.vocabulary_size,
        format: format(metadata.format).into(),
        source: source.to_string(),
        resolved_revision: metadata.resolved_revision.clone(),
        size_bytes: metadata.size_bytes,
        load_duration: metadata.load_duration.and_then(duration),
        loaded_time: metadata.loaded.map(Into::into),
        last_used_time: last_used.map(Into::into),
        device: metadata.device.clone(),
        trained_context_length: metadata.trained_context_length,
        prepared: metadata.prepared,
        embedding_size: metadata.embedding_size,
    }
}

/// How a model is to be run.
pub fn spec(spec: &Spec) -> v1::ModelSpec {
    let source = match &spec.source {
        Source::Path(path) => v1::model_source::Source::Path(path.display().to_string()),
        Source::HuggingFace(hub) => v1::model_source::Source::HuggingFace(v1::HuggingFaceSource {
            repository: hub.repository.clone(),
            revision: hub.revision.clone(),
            files: hub.files.clone(),
        }),
        Source::Demo => v1::model_source::Source::Demo(v1::DemoSource {}),
    };
    v1::ModelSpec {
        source: Some(v1::ModelSource {
            source: Some(source),
        }),
        display_name: spec.display_name.clone(),
        description: spec.description.clone(),
        provider: spec.provider.clone(),
        languages: spec.languages.clone(),
        capabilities: spec.capabilities.clone(),
        labels: spec.labels.clone().into_iter().collect(),
        kind: kind(spec.kind).into(),
        format: format(spec.format).into(),
        device: spec
            .device
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        dtype: dtype(spec.dtype).into(),
        context_length: spec.context_length.unwrap_or_default(),
        max_concurrency: spec.max_concurrency.unwrap_or_default(),
        max_queue: spec.max_queue,
        generation_defaults: (spec.generation_defaults != GenerationDefaults::default())
            .then(|| generation_defaults(&spec.generation_defaults)),
        restart_policy: spec.restart_policy.map(restart_policy),
        quantization: spec
            .quantization
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        adapters: spec.adapters.iter().map(adapter).collect(),
        chat_template: spec.chat_template.clone(),
        tokenizer: spec
            .tokenizer
            .as_ref()
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
        memory_hint: spec.memory_hint.map(|hint| v1::MemoryHint {
            host_bytes: hint.host_bytes,
            device_bytes: hint.device_bytes,
        }),
        idle_timeout: spec.idle_timeout.and_then(duration),
        pinned: spec.pinned,
        required: spec.required,
        preload: spec.preload,
        priority: spec.priority,
        load_on_demand: spec.load_on_demand,
        kv_cache: spec.kv_cache.map(kv_cache),
    }
}

/// A LoRA adapter.
pub fn adapter(adapter: &Adapter) -> v1::LoraAdapter {
    v1::LoraAdapter {
        name: adapter.name.clone(),
        path: adapter
            .path()
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
        demo: adapter.path().is_none().then_some(v1::DemoSource {}),
    }
}

/// Where a model stands.
pub fn status(status: &Status) -> v1::ModelStatus {
    v1::ModelStatus {
        model_id: status.model_id.to_string(),
        state: state(status.stage).into(),
        generation: status.generation.0,
        load_id: status
            .load_id
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        progress: status.progress.map(progress),
        reason: reason(status.failure.as_ref()),
        message: match (&status.failure, &status.suspended) {
            (Some(failure), _) => failure.message.clone(),
            (None, Some(suspension)) => suspension.message.clone(),
            (None, None) => String::new(),
        },
        memory: status.memory.map(memory),
        worker_pid: status.worker_pid.unwrap_or_default(),
        attempt: status.attempt,
        next_retry_time: status.next_retry.map(Into::into),
        restarts: status.restarts,
        in_flight: status.in_flight,
        queued: status.queued,
        since: Some(status.since.into()),
        suspend_reason: suspend_reason(status.suspended.as_ref()).into(),
        next_load_id: status
            .next_load
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    }
}

/// What earlier loads have taught.
pub fn learned(learned: &Learned) -> v1::LearnedFacts {
    let failure = learned.last_failure.as_ref();
    v1::LearnedFacts {
        memory: learned.memory.as_ref().map(|known| memory(known.ready)),
        load_duration: learned.metadata.load_duration.and_then(duration),
        loads_succeeded: learned.loads_succeeded,
        loads_failed: learned.loads_failed,
        last_failure_reason: reason(failure.map(|(failure, _)| failure)),
        last_failure_message: failure
            .map(|(failure, _)| failure.message.clone())
            .unwrap_or_default(),
        last_failure_time: failure.map(|(_, time)| (*time).into()),
        pace: learned.pace.map(pace::message),
    }
}

/// How a load ended.
pub fn load_record(record: &LoadRecord) -> v1::LoadRecord {
    let (outcome, failure) = match &record.outcome {
        LoadOutcome::Succeeded => (v1::LoadOutcome::Succeeded, None),
        LoadOutcome::Failed(failure) => (v1::LoadOutcome::Failed, Some(failure)),
        LoadOutcome::Cancelled => (v1::LoadOutcome::Cancelled, None),
    };
    v1::LoadRecord {
        load_id: record.load_id.to_string(),
        outcome: outcome.into(),
        reason: reason(failure),
        message: failure.map(|f| f.message.clone()).unwrap_or_default(),
        start_time: Some(record.started.into()),
        end_time: Some(record.ended.into()),
        attempts: record.attempts,
    }
}

/// A switch of an alias.
pub fn switch(switch: &Switch) -> v1::SwitchInfo {
    let failure = switch.failure.as_ref();
    let outcome = match switch.outcome {
        None => v1::SwitchOutcome::Unspecified,
        Some(SwitchOutcome::Succeeded) => v1::SwitchOutcome::Succeeded,
        Some(SwitchOutcome::RolledBack) => v1::SwitchOutcome::RolledBack,
        Some(SwitchOutcome::RollbackFailed) => v1::SwitchOutcome::RollbackFailed,
    };
    v1::SwitchInfo {
        switch_id: switch.id.to_string(),
        alias: switch.alias.to_string(),
        from_model_id: switch
            .from
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        to_model_id: switch.to.to_string(),
        strategy: switch_strategy(switch.strategy).into(),
        outcome: outcome.into(),
        reason: reason(failure),
        message: failure.map(|f| f.message.clone()).unwrap_or_default(),
        start_time: Some(switch.began.into()),
        end_time: switch.ended.map(Into::into),
    }
}

/// In which order a switch loads and unloads.
pub fn switch_strategy(strategy: SwitchStrategy) -> v1::SwitchStrategy {
    match strategy {
        SwitchStrategy::LoadFirst => v1::SwitchStrategy::LoadFirst,
        SwitchStrategy::UnloadFirst => v1::SwitchStrategy::UnloadFirst,
    }
}

/// How the next token is chosen.
pub fn sampling(sampling: &Sampling) -> v1::Sampling {
    v1::Sampling {
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        min_p: sampling.min_p,
        frequency_penalty: sampling.frequency_penalty,
        presence_penalty: sampling.presence_penalty,
        repetition_penalty: sampling.repetition_penalty,
    }
}

/// A length of time; `None` where the message cannot express it.
pub fn duration(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
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

fn progress(progress: Progress) -> v1::Progress {
    let phase = match progress.phase {
        Phase::Pending => v1::LoadPhase::Pending,
        Phase::Downloading => v1::LoadPhase::Downloading,
        Phase::Starting => v1::LoadPhase::Starting,
        Phase::Loading => v1::LoadPhase::Loading,
        Phase::Warming => v1::LoadPhase::Warming,
    };
    v1::Progress {
        phase: phase.into(),
        bytes_done: progress.bytes_done,
        bytes_total: progress.bytes_total,
        fraction: progress.fraction,
        eta: progress.eta.and_then(duration),
    }
}

/// What a worker holds.
pub fn memory(memory: Memory) -> v1::ModelMemory {
    v1::ModelMemory {
        host_bytes: memory.host_bytes,
        device_bytes: memory.device_bytes,
    }
}

/// Why a model is not loaded although it was asked for.
pub fn suspend_reason(suspended: Option<&Suspension>) -> v1::SuspendReason {
    match suspended.map(|suspension| suspension.cause) {
        None => v1::SuspendReason::Unspecified,
        Some(SuspendCause::Evicted) => v1::SuspendReason::Evicted,
        Some(SuspendCause::Idle) => v1::SuspendReason::Idle,
    }
}

fn reason(failure: Option<&Failure>) -> String {
    failure
        .map(|failure| failure.reason.name().to_owned())
        .unwrap_or_default()
}

fn state(stage: Stage) -> v1::ModelState {
    match stage {
        Stage::Unloaded => v1::ModelState::Unloaded,
        Stage::Pending => v1::ModelState::Pending,
        Stage::Downloading => v1::ModelState::Downloading,
        Stage::Starting => v1::ModelState::Starting,
        Stage::Loading => v1::ModelState::Loading,
        Stage::Warming => v1::ModelState::Warming,
        Stage::Ready => v1::ModelState::Ready,
        Stage::Draining => v1::ModelState::Draining,
        Stage::Unloading => v1::ModelState::Unloading,
        Stage::Backoff => v1::ModelState::Backoff,
        Stage::Failed => v1::ModelState::Failed,
    }
}

/// The kind that a message tells, if it tells one.
pub fn kind_of(kind: v1::ModelKind) -> Option<ModelKind> {
    match kind {
        v1::ModelKind::Unspecified => None,
        v1::ModelKind::Text => Some(ModelKind::Text),
        v1::ModelKind::Multimodal => Some(ModelKind::Multimodal),
        v1::ModelKind::Embedding => Some(ModelKind::Embedding),
        v1::ModelKind::Image => Some(ModelKind::Image),
        v1::ModelKind::Speech => Some(ModelKind::Speech),
    }
}

/// The format that a message tells, if it tells one.
pub fn format_of(format: v1::ModelFormat) -> Option<Format> {
    match format {
        v1::ModelFormat::Unspecified => None,
        v1::ModelFormat::Safetensors => Some(Format::Safetensors),
        v1::ModelFormat::Gguf => Some(Format::Gguf),
        v1::ModelFormat::Uqff => Some(Format::Uqff),
    }
}

/// The data type that a message tells, if it tells one.
pub fn dtype_of(dtype: v1::DataType) -> Option<DataType> {
    match dtype {
        v1::DataType::Unspecified => None,
        v1::DataType::F32 => Some(DataType::F32),
        v1::DataType::F16 => Some(DataType::F16),
        v1::DataType::Bf16 => Some(DataType::Bf16),
    }
}

/// A kind.
pub fn kind(kind: Option<ModelKind>) -> v1::ModelKind {
    match kind {
        None => v1::ModelKind::Unspecified,
        Some(ModelKind::Text) => v1::ModelKind::Text,
        Some(ModelKind::Multimodal) => v1::ModelKind::Multimodal,
        Some(ModelKind::Embedding) => v1::ModelKind::Embedding,
        Some(ModelKind::Image) => v1::ModelKind::Image,
        Some(ModelKind::Speech) => v1::ModelKind::Speech,
    }
}

/// A format.
pub fn format(format: Option<Format>) -> v1::ModelFormat {
    match format {
        None => v1::ModelFormat::Unspecified,
        Some(Format::Safetensors) => v1::ModelFormat::Safetensors,
        Some(Format::Gguf) => v1::ModelFormat::Gguf,
        Some(Format::Uqff) => v1::ModelFormat::Uqff,
    }
}

/// A data type.
pub fn dtype(dtype: Option<DataType>) -> v1::DataType {
    match dtype {
        None => v1::DataType::Unspecified,
        Some(DataType::F32) => v1::DataType::F32,
        Some(DataType::F16) => v1::DataType::F16,
        Some(DataType::Bf16) => v1::DataType::Bf16,
    }
}
