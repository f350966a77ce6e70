//! What is known about a model.

use std::time::SystemTime;

use hangar_client::v1;

use crate::{
    model::{ConversationSupport, ModelMetadata, Source, Support},
    wire::{dtype_message, duration_message, format_message, kind_message, text},
};

/// What is known about a model from `source`.
pub(in crate::rpc) fn metadata_message(
    metadata: &ModelMetadata,
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
        kind: kind_message(metadata.kind).into(),
        input_modalities: metadata.input_modalities.clone(),
        output_modalities: metadata.output_modalities.clone(),
        parameter_count: metadata.parameter_count,
        dtype: dtype_message(metadata.dtype).into(),
        quantization: metadata.quantization.clone(),
        context_length: metadata.context_length,
        vocabulary_size: metadata.vocabulary_size,
        format: format_message(metadata.format).into(),
        source: source.to_string(),
        resolved_revision: metadata.resolved_revision.clone(),
        size_bytes: metadata.size_bytes,
        load_duration: metadata.load_duration.and_then(duration_message),
        loaded_time: metadata.loaded.map(Into::into),
        last_used_time: last_used.map(Into::into),
        device: text(metadata.device.as_ref()),
        trained_context_length: metadata.trained_context_length,
        prepared: metadata.prepared,
        embedding_size: metadata.embedding_size,
        conversation: metadata.conversation.as_ref().map(conversation),
    }
}

fn conversation(known: &ConversationSupport) -> v1::ConversationSupport {
    let support = |support: &Support| {
        Some(v1::Support {
            supported: support.supported,
            why_not: support.why_not.clone(),
        })
    };
    v1::ConversationSupport {
        messages: support(&known.messages),
        tools: support(&known.tools),
        images: support(&known.images),
        thinking: support(&known.thinking),
    }
}
