//! The worker's errors as gRPC statuses.
//!
//! Every status carries `google.rpc.ErrorInfo` with the domain of the API and a reason of
//! `hangar.v1.ErrorReason`, so that the server can pass it on as it is.

use std::{collections::HashMap, time::Duration};

use hangar_client::{ERROR_DOMAIN, v1::ErrorReason};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{failure::one_paragraph, stats::TooSlow};

/// How long a caller is to wait when the worker dies: about a restart.
const RETRY_AFTER_DEATH: Duration = Duration::from_secs(1);

/// A field of the request is wrong.
pub(crate) fn invalid_field(field: &str, description: impl Into<String>) -> Status {
    invalid_argument(ErrorReason::InvalidField, field, description.into())
}

/// Prompt and answer do not fit into the model's context.
pub(crate) fn context_exceeded(field: &str, description: impl Into<String>) -> Status {
    invalid_argument(ErrorReason::ContextExceeded, field, description.into())
}

/// The model cannot do what was asked.
pub(crate) fn unsupported_by_model(message: impl Into<String>) -> Status {
    with_reason(
        Code::FailedPrecondition,
        ErrorReason::UnsupportedByModel,
        message.into(),
    )
}

/// The model is not loaded.
pub(crate) fn not_loaded() -> Status {
    with_reason(
        Code::FailedPrecondition,
        ErrorReason::ModelNotLoaded,
        "the worker has not loaded its model".into(),
    )
}

/// The worker was asked to end.
pub(crate) fn unloaded() -> Status {
    with_reason(
        Code::Unavailable,
        ErrorReason::ModelUnloaded,
        "the model is being unloaded".into(),
    )
}

/// The engine died, and the worker dies with it.
pub(crate) fn worker_died() -> Status {
    let mut details = details(ErrorReason::WorkerDied);
    details.set_retry_info(Some(RETRY_AFTER_DEATH));
    Status::with_error_details(
        Code::Unavailable,
        "the model's engine died while the request ran; try again when the model is ready",
        details,
    )
}

/// Reading the prompt takes longer than its caller waits.
pub(crate) fn deadline_too_short(tokens: u64, slow: TooSlow, left: Duration) -> Status {
    let TooSlow {
        tokens_per_second,
        estimated,
    } = slow;
    let (estimated, left) = (estimated.as_secs_f64(), left.as_secs_f64());
    let metadata = [
        ("prompt_tokens", tokens.to_string()),
        (
            "prompt_tokens_per_second",
            format!("{tokens_per_second:.3}"),
        ),
        ("estimated_seconds", format!("{estimated:.3}")),
        ("seconds_left", format!("{left:.3}")),
    ];
    with_metadata(
        Code::DeadlineExceeded,
        ErrorReason::DeadlineTooShort,
        format!(
            "the prompt has {tokens} tokens, of which this model reads {tokens_per_second:.1} a second here: that \
             takes {estimated:.1} s, and the deadline leaves {left:.1} s; give it more time, or a shorter prompt"
        ),
        metadata,
    )
}

/// A prompt of `fatal` tokens has ended a worker of this model, and this one is no shorter.
pub(crate) fn prompt_too_large(tokens: u64, fatal: u64, reason: &str) -> Status {
    let metadata = [
        ("prompt_tokens", tokens.to_string()),
        ("fatal_prompt_tokens", fatal.to_string()),
        ("fatal_reason", reason.to_owned()),
    ];
    with_metadata(
        Code::FailedPrecondition,
        ErrorReason::PromptTooLarge,
        format!(
            "the prompt has {tokens} tokens, and one of {fatal}, more than this model had read before, ended two of \
             its workers ({reason}); shorten it, or change what stood in its way and load the model again with \
             force_reload"
        ),
        metadata,
    )
}

/// A fault of the worker or its engine. The server logs the message and does not send it on.
pub(crate) fn internal(message: impl AsRef<str>) -> Status {
    with_reason(
        Code::Internal,
        ErrorReason::Internal,
        one_paragraph(message.as_ref()),
    )
}

fn invalid_argument(reason: ErrorReason, field: &str, description: String) -> Status {
    let mut details = details(reason);
    details.add_bad_request_violation(field, description.as_str());
    Status::with_error_details(
        Code::InvalidArgument,
        format!("{field}: {description}"),
        details,
    )
}

fn with_reason(code: Code, reason: ErrorReason, message: String) -> Status {
    Status::with_error_details(code, message, details(reason))
}

fn with_metadata<const N: usize>(
    code: Code,
    reason: ErrorReason,
    message: String,
    metadata: [(&str, String); N],
) -> Status {
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value));
    let details = ErrorDetails::with_error_info(name(reason), ERROR_DOMAIN, metadata);
    Status::with_error_details(code, message, details)
}

fn details(reason: ErrorReason) -> ErrorDetails {
    ErrorDetails::with_error_info(name(reason), ERROR_DOMAIN, HashMap::new())
}

/// The name of a reason without its prefix, as errors have it.
fn name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn every_status_carries_its_reason_and_code() {
        let slow = TooSlow {
            tokens_per_second: 1.0,
            estimated: Duration::from_secs(2),
        };
        let cases = [
            (
                invalid_field("a", "b"),
                Code::InvalidArgument,
                "INVALID_FIELD",
            ),
            (
                context_exceeded("a", "b"),
                Code::InvalidArgument,
                "CONTEXT_EXCEEDED",
            ),
            (
                unsupported_by_model("a"),
                Code::FailedPrecondition,
                "UNSUPPORTED_BY_MODEL",
            ),
            (not_loaded(), Code::FailedPrecondition, "MODEL_NOT_LOADED"),
            (unloaded(), Code::Unavailable, "MODEL_UNLOADED"),
            (worker_died(), Code::Unavailable, "WORKER_DIED"),
            (internal("a"), Code::Internal, "INTERNAL"),
            (
                prompt_too_large(2, 1, "WORKER_HUNG"),
                Code::FailedPrecondition,
                "PROMPT_TOO_LARGE",
            ),
            (
                deadline_too_short(2, slow, Duration::ZERO),
                Code::DeadlineExceeded,
                "DEADLINE_TOO_SHORT",
            ),
        ];
        for (status, code, reason) in cases {
            assert_eq!(status.code(), code);
            let info = status.get_details_error_info().expect("error info");
            assert_eq!(
                (info.domain.as_str(), info.reason.as_str()),
                (ERROR_DOMAIN, reason)
            );
        }
    }

    #[bounded::test]
    fn a_wrong_field_is_named_in_the_details() {
        let bad = invalid_field("prompt", "is empty")
            .get_details_bad_request()
            .expect("bad request");
        assert_eq!(bad.field_violations[0].field, "prompt");
    }
}
