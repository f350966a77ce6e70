//! One Embed call: from its check to its answer.

use std::time::Duration;

use hangar_client::v1::{EmbedRequest, EmbedResponse, Embedding};
use tonic::Status;
use tracing::{Instrument, Span, field::Empty, info_span};

use super::{
    bounds::bounds,
    broken_call::explain,
    deadline::{Deadline, earliest},
    error::{ApiError, reason_of},
    generate::span_failed,
    validate::{self, Violations},
};
use crate::{
    lifecycle::{Admitted, Fleet, ModelRequest, within},
    model::Operation,
};

/// Texts of a request, and their length in bytes together.
const MAX_INPUTS: usize = 1024;
const MAX_TEXT: usize = 8 << 20;

/// Wrong texts that an error names: more would not fit into the end of a call.
const MAX_NAMED: usize = 16;

/// A checked request.
#[derive(Debug)]
pub(super) struct Embed {
    /// Whom it is for, and until when.
    pub(super) admission: ModelRequest,
    pub(super) inputs: Vec<String>,
    /// For traces; empty: none.
    pub(super) request_id: String,
}

/// Reads `message`, whose caller gives up at `deadline`.
///
/// # Errors
///
/// All that is wrong with it.
pub(super) fn parse(message: EmbedRequest, deadline: Option<Deadline>) -> Result<Embed, ApiError> {
    let timeout = check(&message)?;
    Ok(Embed {
        admission: ModelRequest {
            name: validate::model_id("model_id", &message.model_id)?,
            operation: Operation::Embeddings,
            priority: message.priority,
            deadline: earliest(deadline, timeout),
        },
        inputs: message.inputs,
        request_id: message.request_id,
    })
}

/// Checks `request`, and gives the time that it is to take.
fn check(request: &EmbedRequest) -> Result<Option<Duration>, ApiError> {
    let mut violations = Violations::default();
    check_inputs(&request.inputs, &mut violations);
    violations.request_id(&request.request_id);
    let timeout = violations.duration("timeout", request.timeout, Duration::from_millis(1));
    violations.finish()?;
    Ok(timeout)
}

/// Takes note of what is wrong with the texts, which are in the field `inputs`.
pub(super) fn check_inputs(inputs: &[String], violations: &mut Violations) {
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
}

/// A span for `request`, below the current one, by the semantic conventions for GenAI. The texts are never in
/// it.
fn begin_span(request: &Embed) -> Span {
    let operation = request.admission.operation.name();
    let model = request.admission.name.as_str();
    info_span!(
        "gen_ai",
        otel.name = format!("{operation} {model}"),
        otel.kind = "internal",
        otel.status_code = Empty,
        gen_ai.operation.name = operation,
        gen_ai.provider.name = "mistral.rs",
        gen_ai.request.model = model,
        gen_ai.embeddings.dimension.count = Empty,
        gen_ai.usage.input_tokens = Empty,
        hangar.request_id = (!request.request_id.is_empty()).then_some(request.request_id.as_str()),
        error.type = Empty,
    )
}

/// Has a worker of `fleet` make the vectors. Dropped before its end, the worker gives them up.
///
/// # Errors
///
/// What the caller hears.
pub(super) async fn embed(fleet: &Fleet, request: Embed) -> Result<EmbedResponse, Status> {
    let span = begin_span(&request);
    match fleet.admit(&request.admission).await {
        Ok(admitted) => make(request, admitted).instrument(span).await,
        Err(error) => {
            span_failed(&span, error.reason());
            Err(ApiError::from(error).into())
        }
    }
}

async fn make(request: Embed, admitted: Admitted) -> Result<EmbedResponse, Status> {
    let Admitted { mut permit, record } = admitted;
    let deadline = request.admission.deadline;
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

    #[bounded::test]
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

    #[bounded::test]
    fn an_error_stays_small_however_much_is_wrong() {
        let empty = wrong(|r| r.inputs = vec![String::new(); MAX_INPUTS]);
        assert_eq!(empty.len(), MAX_NAMED);
    }
}
