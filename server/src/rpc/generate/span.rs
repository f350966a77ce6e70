//! The span of a generation, by the semantic conventions for GenAI: `{operation} {model}`.
//!
//! What is asked and answered is never in it, stop texts included.

use hangar_client::v1::{FinishReason, GenerateDone, GenerateRequest};
use tracing::{Span, field::Empty, info_span};

use crate::model::Operation;

/// A span for `request`, below the current one.
pub(super) fn begin(request: &GenerateRequest, operation: Operation) -> Span {
    let sampling = request.sampling.unwrap_or_default();
    let asked = (request.max_tokens != 0).then_some(i64::from(request.max_tokens));
    let operation = operation.name();
    info_span!(
        "gen_ai",
        otel.name = format!("{operation} {}", request.model_id),
        otel.kind = "internal",
        otel.status_code = Empty,
        gen_ai.operation.name = operation,
        gen_ai.provider.name = "mistral.rs",
        gen_ai.request.model = request.model_id,
        gen_ai.request.max_tokens = asked,
        gen_ai.request.temperature = sampling.temperature,
        gen_ai.request.top_p = sampling.top_p,
        gen_ai.request.top_k = sampling.top_k.map(i64::from),
        gen_ai.request.frequency_penalty = sampling.frequency_penalty,
        gen_ai.request.presence_penalty = sampling.presence_penalty,
        gen_ai.request.seed = request.seed.map(u64::cast_signed),
        gen_ai.response.finish_reasons = Empty,
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
        hangar.request_id = (!request.request_id.is_empty()).then_some(request.request_id.as_str()),
        error.type = Empty,
    )
}

/// Takes note in `span` of how the answer ended.
pub(in crate::rpc) fn done(span: &Span, done: &GenerateDone) {
    let reason = match done.finish_reason() {
        FinishReason::Unspecified => "unspecified",
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
    };
    span.record("gen_ai.response.finish_reasons", format!("[\"{reason}\"]"));
    let usage = done.usage.unwrap_or_default();
    span.record("gen_ai.usage.input_tokens", i64::from(usage.prompt_tokens));
    span.record(
        "gen_ai.usage.output_tokens",
        i64::from(usage.completion_tokens),
    );
}

/// Takes note in `span` of why there is no answer.
pub(in crate::rpc) fn failed(span: &Span, reason: &str) {
    span.record("error.type", reason);
    span.record("otel.status_code", "ERROR");
}
