//! One Embed call: from its check to its answer.

use std::time::Duration;

use hangar_client::v1::{EmbedRequest, EmbedResponse, Embedding};
use tokio::time::Instant;
use tonic::Status;
use tracing::{Span, field::Empty, info_span};

use super::{
    bounds::bounds,
    error::{ApiError, reason_of},
    generate::{span_failed, within},
    inference_service::explain,
    validate::Violations,
};
use crate::lifecycle::{Operation, Permit, RequestRecord};

/// Texts of a request, and their length in bytes together.
const MAX_INPUTS: usize = 1024;
const MAX_TEXT: usize = 8 << 20;

/// Wrong texts of which an error tells: more would not fit into the end of a call.
const MAX_NAMED: usize = 16;

/// Checks `request` and gives its deadline.
///
/// # Errors
///
/// All that is wrong with it.
pub(super) fn check(request: &EmbedRequest) -> Result<Option<Instant>, ApiError> {
    let mut violations = Violations::default();
    let inputs = &request.inputs;
    let count = (1..=MAX_INPUTS).contains(&inputs.len());
    violations.check(count, "inputs", "must have from 1 to 1024 entries");
    let text: usize = inputs.iter().map(String::len).sum();
    violations.check(text <= MAX_TEXT, "inputs", "must have at most 8 MiB");
    let empty = inputs
        .iter()
        .enumerate()
        .filter(|(_, text)| text.is_empty());
    for (n, _) in empty.take(MAX_NAMED) {
        violations.add(format!("inputs[{n}]"), "must not be empty");
    }
    violations.request_id(&request.request_id);
    let timeout = violations.duration("timeout", request.timeout, Duration::from_millis(1));
    violations.finish()?;
    Ok(timeout.map(|timeout| Instant::now() + timeout))
}

/// A span for `request`, below the current one, by the semantic conventions for GenAI. The texts are never in
/// it.
pub(super) fn begin_span(request: &EmbedRequest) -> Span {
    let operation = Operation::Embeddings.name();
    info_span!(
        "gen_ai",
        otel.name = format!("{operation} {}", request.model_id),
        otel.kind = "internal",
        otel.status_code = Empty,
        gen_ai.operation.name = operation,
        gen_ai.provider.name = "mistral.rs",
        gen_ai.request.model = request.model_id,
        gen_ai.embeddings.dimension.count = Empty,
        gen_ai.usage.input_tokens = Empty,
        hangar.request_id = (!request.request_id.is_empty()).then_some(request.request_id.as_str()),
        error.type = Empty,
    )
}

/// Has the worker make the vectors. Dropped before its end, the worker gives them up.
///
/// # Errors
///
/// What the caller is told.
pub(super) async fn embed(
    request: EmbedRequest,
    mut permit: Permit,
    record: RequestRecord,
    deadline: Option<Instant>,
) -> Result<EmbedResponse, Status> {
    let span = Span::current();
    let count = request.inputs.len();
    let bounds = bounds(&permit, deadline);
    let mut client = permit.client();
    let answer = within(deadline, async {
        tokio::select! {
            answer = client.embed(request.inputs, bounds) => Ok(answer),
            failure = permit.cut_off() => Err(ApiError::Failed(failure)),
        }
    });
    let status = match answer.await {
        Ok(Ok(embeddings)) => {
            if embeddings.len() == count {
                let prompt_tokens = record_usage(&span, &embeddings);
                record.succeed(prompt_tokens, 0);
                return Ok(EmbedResponse {
                    embeddings,
                    prompt_tokens,
                });
            }
            let what = format!("{} vectors came for {count} texts", embeddings.len());
            ApiError::Internal(what).into()
        }
        Ok(Err(status)) => explain(status, &mut permit).await,
        Err(error) => error.into(),
    };
    span_failed(&span, reason_of(&status));
    record.fail(reason_of(&status));
    Err(status)
}

/// Takes note in `span` of what was made, and gives the tokens that it took.
fn record_usage(span: &Span, embeddings: &[Embedding]) -> u32 {
    let size = embeddings.first().map_or(0, |first| first.values.len());
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    span.record("gen_ai.embeddings.dimension.count", size);
    let tokens = embeddings.iter().map(|embedding| embedding.token_count);
    let tokens = tokens.fold(0, u32::saturating_add);
    span.record("gen_ai.usage.input_tokens", i64::from(tokens));
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(change: impl FnOnce(&mut EmbedRequest)) -> Vec<String> {
        let mut request = EmbedRequest {
            inputs: vec!["x".to_owned()],
            ..EmbedRequest::default()
        };
        change(&mut request);
        match check(&request) {
            Ok(_) => Vec::new(),
            Err(ApiError::Invalid(violations)) => {
                violations.into_iter().map(|(field, _)| field).collect()
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn texts_are_counted_and_none_is_empty() {
        assert!(wrong(|_| {}).is_empty());
        assert_eq!(wrong(|r| r.inputs.clear()), ["inputs"]);
        assert!(wrong(|r| r.inputs = vec!["x".to_owned(); MAX_INPUTS]).is_empty());
        let many = wrong(|r| r.inputs = vec!["x".to_owned(); MAX_INPUTS + 1]);
        assert_eq!(many, ["inputs"]);
        assert_eq!(wrong(|r| r.inputs.push(String::new())), ["inputs[1]"]);
        assert!(wrong(|r| r.inputs = vec!["x".repeat(MAX_TEXT)]).is_empty());
        let long = wrong(|r| r.inputs.push("x".repeat(MAX_TEXT)));
        assert_eq!(long, ["inputs"]);
    }

    #[test]
    fn an_error_stays_small_however_much_is_wrong() {
        let empty = wrong(|r| r.inputs = vec![String::new(); MAX_INPUTS]);
        assert_eq!(empty.len(), MAX_NAMED);
    }
}
