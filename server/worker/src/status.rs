//! The worker's errors as gRPC statuses.
//!
//! Every status carries `google.rpc.ErrorInfo` with domain "hangar.v1" and a reason of
//! `hangar.v1.ErrorReason`, so that the server can pass it on as it is.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::failure::one_paragraph;

/// Domain of every reason.
const DOMAIN: &str = "hangar.v1";

/// How long a caller is told to wait when the worker dies: about a restart.
const RETRY_AFTER_DEATH: Duration = Duration::from_secs(1);

/// A field of the request is wrong.
pub(crate) fn invalid_field(field: &str, description: impl Into<String>) -> Status {
    invalid_argument("INVALID_FIELD", field, description.into())
}

/// Prompt and answer do not fit into the model's context.
pub(crate) fn context_exceeded(field: &str, description: impl Into<String>) -> Status {
    invalid_argument("CONTEXT_EXCEEDED", field, description.into())
}

/// The model cannot do what was asked.
pub(crate) fn unsupported_by_model(message: impl Into<String>) -> Status {
    with_reason(
        Code::FailedPrecondition,
        "UNSUPPORTED_BY_MODEL",
        message.into(),
    )
}

/// The model is not loaded.
pub(crate) fn not_loaded() -> Status {
    with_reason(
        Code::FailedPrecondition,
        "MODEL_NOT_LOADED",
        "the worker has not loaded its model".into(),
    )
}

/// The worker was asked to end.
pub(crate) fn unloaded() -> Status {
    with_reason(
        Code::Unavailable,
        "MODEL_UNLOADED",
        "the model is being unloaded".into(),
    )
}

/// The engine died, and the worker dies with it.
pub(crate) fn worker_died() -> Status {
    let mut details = details("WORKER_DIED");
    details.set_retry_info(Some(RETRY_AFTER_DEATH));
    Status::with_error_details(
        Code::Unavailable,
        "the model's engine died while the request ran; try again when the model is ready",
        details,
    )
}

/// A fault of the worker or its engine. The server logs the message and does not send it on.
pub(crate) fn internal(message: impl AsRef<str>) -> Status {
    with_reason(Code::Internal, "INTERNAL", one_paragraph(message.as_ref()))
}

fn invalid_argument(reason: &str, field: &str, description: String) -> Status {
    let mut details = details(reason);
    details.add_bad_request_violation(field, description.as_str());
    Status::with_error_details(
        Code::InvalidArgument,
        format!("{field}: {description}"),
        details,
    )
}

fn with_reason(code: Code, reason: &str, message: String) -> Status {
    Status::with_error_details(code, message, details(reason))
}

fn details(reason: &str) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_carries_its_reason_and_code() {
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
        ];
        for (status, code, reason) in cases {
            assert_eq!(status.code(), code);
            let info = status.get_details_error_info().expect("error info");
            assert_eq!(
                (info.domain.as_str(), info.reason.as_str()),
                (DOMAIN, reason)
            );
        }
    }

    #[test]
    fn a_wrong_field_is_named_in_the_details() {
        let bad = invalid_field("prompt", "is empty")
            .get_details_bad_request()
            .expect("bad request");
        assert_eq!(bad.field_violations[0].field, "prompt");
    }
}
