//! The statuses of errors, with their details.

use std::{collections::HashMap, time::Duration};

use hangar_client::{ERROR_DOMAIN, v1::ErrorReason};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

use crate::model::{Failure, Reason};

/// Prefix of the values of ErrorReason.
const PREFIX: &str = "ERROR_REASON_";

/// When to ask again after a fault that a restart cures.
pub(super) const RESTART_RETRY: Duration = Duration::from_secs(1);

/// The status of what only the operator can do something about: the log has the cause, and the caller its id, with
/// what `left` says of what is left behind.
pub(super) fn internal<const N: usize>(
    cause: &str,
    metadata: [(&str, String); N],
    left: Option<&str>,
) -> Status {
    let id = Uuid::new_v4().to_string();
    tracing::error!(error_id = id, cause, "internal error");
    let left = left.map(|left| format!("; the {left}")).unwrap_or_default();
    let message = format!("internal error; the server's log has the cause under {id}{left}");
    let metadata = metadata.into_iter().chain([("error_id", id)]);
    Status::with_error_details(
        Code::Internal,
        message,
        details(ErrorReason::Internal, metadata),
    )
}

/// The status of a failed model.
pub(super) fn failed<const N: usize>(failure: Failure, metadata: [(&str, String); N]) -> Status {
    let (code, reason, retry) = match failure.reason {
        Reason::ModelUnusable => (Code::FailedPrecondition, ErrorReason::ModelUnusable, false),
        Reason::SourceNotAllowed => (Code::PermissionDenied, ErrorReason::SourceNotAllowed, false),
        Reason::DeviceUnavailable => (
            Code::FailedPrecondition,
            ErrorReason::DeviceUnavailable,
            false,
        ),
        Reason::InsufficientMemory => (
            Code::ResourceExhausted,
            ErrorReason::InsufficientMemory,
            false,
        ),
        Reason::StorageFull => (Code::ResourceExhausted, ErrorReason::StorageFull, false),
        Reason::WorkerDied => (Code::Unavailable, ErrorReason::WorkerDied, true),
        Reason::WorkerHung | Reason::Unreaped | Reason::DeviceMemoryHeld => {
            (Code::Unavailable, ErrorReason::WorkerHung, true)
        }
        Reason::LoadTimeout => (Code::DeadlineExceeded, ErrorReason::LoadTimeout, false),
        Reason::LoadStalled => (Code::DeadlineExceeded, ErrorReason::LoadStalled, false),
        Reason::LoadCancelled => (Code::Aborted, ErrorReason::LoadCancelled, false),
        Reason::ModelUnloaded => (Code::Unavailable, ErrorReason::ModelUnloaded, false),
        Reason::ShuttingDown => (Code::Unavailable, ErrorReason::ShuttingDown, true),
        Reason::HubUnavailable => (Code::Unavailable, ErrorReason::HubUnavailable, true),
        Reason::FilesUnavailable => (Code::Unavailable, ErrorReason::FilesUnavailable, true),
        Reason::HubDenied => (Code::PermissionDenied, ErrorReason::HubDenied, false),
        Reason::UnsupportedByModel => (
            Code::FailedPrecondition,
            ErrorReason::UnsupportedByModel,
            false,
        ),
        Reason::Internal => return internal(&failure.message, metadata, None),
    };
    let mut details = details(reason, metadata);
    match (failure.reason, failure.subject) {
        (Reason::InsufficientMemory, subject) => {
            let subject = subject.unwrap_or_else(|| "host memory".to_owned());
            details.add_quota_failure_violation(subject, failure.message.clone());
        }
        (Reason::DeviceUnavailable, Some(subject)) => {
            let what = failure.message.clone();
            details.add_precondition_failure_violation("DEVICE", subject, what);
        }
        _ => {}
    }
    if retry {
        details.set_retry_info(Some(RESTART_RETRY));
    }
    Status::with_error_details(code, failure.message, details)
}

/// The reason that `status` carries, for metrics: one of a bounded set.
pub(in crate::rpc) fn reason_of(status: &Status) -> &'static str {
    let name = status
        .get_details_error_info()
        .map(|info| format!("{PREFIX}{}", info.reason))
        .unwrap_or_default();
    let reason = ErrorReason::from_str_name(&name).unwrap_or_default();
    bare(reason)
}

/// The name of `reason` as it goes over the wire.
pub(super) fn bare(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix(PREFIX).unwrap_or(name)
}

pub(super) fn details<'a>(
    reason: ErrorReason,
    metadata: impl IntoIterator<Item = (&'a str, String)>,
) -> ErrorDetails {
    let metadata: HashMap<_, _> = metadata
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    ErrorDetails::with_error_info(bare(reason), ERROR_DOMAIN, metadata)
}
