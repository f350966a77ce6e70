//! What callers are told when something goes wrong.

use std::{collections::HashMap, time::Duration};

use hangar_client::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

use crate::{
    catalog::RegisterError,
    lifecycle::{LoadError, SourceError, UnknownModel},
    model::{Failure, Reason},
};

/// Domain of all error details.
pub(super) const DOMAIN: &str = "hangar.v1";

/// What can go wrong with a call. One match turns it into a status.
#[derive(Debug)]
pub enum ApiError {
    /// Fields are wrong: each with what is wrong about it.
    Invalid(Vec<(String, String)>),
    /// A resume token was not made by this server for this use.
    InvalidToken,
    /// No such model.
    UnknownModel(UnknownModel),
    /// The source may not be used.
    SourceNotAllowed(String),
    /// The spec differs from the registered one.
    SpecConflict {
        /// The model.
        model: String,
        /// The registered spec's version.
        version: u64,
    },
    /// A limit of the server was reached.
    Limit {
        /// What is limited.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// This server cannot honour a field or a call.
    NotImplemented(String),
    /// The model is not loaded.
    NotLoaded {
        /// The model.
        model: String,
        /// Why, if it failed.
        failure: Option<Failure>,
    },
    /// The model is loading.
    Loading {
        /// The model.
        model: String,
        /// When to try again.
        retry: Duration,
    },
    /// As many requests wait as may.
    QueueFull {
        /// How many that is.
        limit: u32,
    },
    /// The model, its load or its worker failed.
    Failed(Failure),
    /// The server is shutting down.
    ShuttingDown,
    /// The request id was used for another body.
    RequestIdReused,
    /// The caller's deadline passed.
    DeadlineExceeded,
    /// A fault of the server.
    Internal(String),
}

/// Prefix of the values of ErrorReason.
const PREFIX: &str = "ERROR_REASON_";

/// When to ask again after a fault that a restart cures.
const RESTART_RETRY: Duration = Duration::from_secs(1);

// === impl ApiError ===

impl ApiError {
    /// One wrong field.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![(field.into(), description.into())])
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Invalid(violations) => {
                let summary: Vec<_> = violations
                    .iter()
                    .map(|(field, what)| format!("{field}: {what}"))
                    .collect();
                let mut details = details(ErrorReason::InvalidField, []);
                for (field, description) in violations {
                    details.add_bad_request_violation(field, description);
                }
                Status::with_error_details(Code::InvalidArgument, summary.join("; "), details)
            }
            ApiError::InvalidToken => Status::with_error_details(
                Code::InvalidArgument,
                "resume_token: was not given by this server; watch again without it",
                details(ErrorReason::TokenInvalid, []),
            ),
            ApiError::UnknownModel(unknown) => {
                let known: Vec<_> = unknown.known.iter().map(ToString::to_string).collect();
                let metadata = [
                    ("model_id", unknown.id.to_string()),
                    ("known_model_ids", known.join(",")),
                ];
                let mut details = details(ErrorReason::ModelNotFound, metadata);
                details.set_resource_info(
                    "hangar.v1.Model",
                    unknown.id.as_str(),
                    "",
                    "no such model is registered",
                );
                Status::with_error_details(Code::NotFound, unknown.to_string(), details)
            }
            ApiError::SourceNotAllowed(message) => Status::with_error_details(
                Code::PermissionDenied,
                message,
                details(ErrorReason::SourceNotAllowed, []),
            ),
            ApiError::SpecConflict { model, version } => {
                let message = format!(
                    "model {model} is registered with another spec (version {version}); leave the spec out, or give \
                     force_reload to replace it"
                );
                let metadata = [
                    ("model_id", model.clone()),
                    ("version", version.to_string()),
                ];
                let mut details = details(ErrorReason::SpecConflict, metadata);
                details.add_precondition_failure_violation(
                    "SPEC",
                    model,
                    "the registered spec differs",
                );
                Status::with_error_details(Code::FailedPrecondition, message, details)
            }
            ApiError::Limit { what, limit } => Status::with_error_details(
                Code::ResourceExhausted,
                format!("the server's limit of {limit} {what} is reached"),
                details(ErrorReason::LimitReached, [("limit", limit.to_string())]),
            ),
            ApiError::NotImplemented(field) => Status::with_error_details(
                Code::Unimplemented,
                format!("{field} is known but not supported by this server; leave it out"),
                details(ErrorReason::NotImplemented, [("field", field)]),
            ),
            ApiError::NotLoaded { model, failure } => {
                let why = failure
                    .map(|f| format!("; its last load failed: {f}"))
                    .unwrap_or_default();
                Status::with_error_details(
                    Code::FailedPrecondition,
                    format!("model {model} is not loaded; load it with LoadModel{why}"),
                    details(ErrorReason::ModelNotLoaded, [("model_id", model)]),
                )
            }
            ApiError::Loading { model, retry } => {
                let mut details = details(ErrorReason::ModelLoading, [("model_id", model.clone())]);
                details.set_retry_info(Some(retry));
                let message = format!(
                    "model {model} is still loading; try again in {:.1} s",
                    retry.as_secs_f64()
                );
                Status::with_error_details(Code::Unavailable, message, details)
            }
            ApiError::QueueFull { limit } => {
                let mut details = details(ErrorReason::QueueFull, [("limit", limit.to_string())]);
                details.set_retry_info(Some(RESTART_RETRY));
                let message =
                    format!("{limit} requests wait for this model already; try again later");
                Status::with_error_details(Code::ResourceExhausted, message, details)
            }
            ApiError::Failed(failure) => failed(failure),
            ApiError::ShuttingDown => failed(Failure::new(
                Reason::ShuttingDown,
                "the server is shutting down",
            )),
            ApiError::RequestIdReused => Status::with_error_details(
                Code::InvalidArgument,
                "request_id: was used before for another request; take a new one",
                details(ErrorReason::RequestIdReused, []),
            ),
            ApiError::DeadlineExceeded => Status::with_error_details(
                Code::DeadlineExceeded,
                "the deadline of the call has passed",
                details(ErrorReason::DeadlineExceeded, []),
            ),
            ApiError::Internal(cause) => {
                let id = Uuid::new_v4().to_string();
                tracing::error!(error_id = id, cause, "internal error");
                let message = format!("internal error; the server's log has the cause under {id}");
                Status::with_error_details(
                    Code::Internal,
                    message,
                    details(ErrorReason::Internal, [("error_id", id)]),
                )
            }
        }
    }
}

/// The status of a failed model.
fn failed(failure: Failure) -> Status {
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
        Reason::WorkerHung | Reason::Unreaped => (Code::Unavailable, ErrorReason::WorkerHung, true),
        Reason::LoadTimeout => (Code::DeadlineExceeded, ErrorReason::LoadTimeout, false),
        Reason::LoadStalled => (Code::DeadlineExceeded, ErrorReason::LoadStalled, false),
        Reason::LoadCancelled => (Code::Aborted, ErrorReason::LoadCancelled, false),
        Reason::ModelUnloaded => (Code::Unavailable, ErrorReason::ModelUnloaded, false),
        Reason::ShuttingDown => (Code::Unavailable, ErrorReason::ShuttingDown, true),
    };
    let mut details = details(reason, []);
    if failure.reason == Reason::InsufficientMemory {
        details.add_quota_failure_violation("host memory", failure.message.clone());
    }
    if retry {
        details.set_retry_info(Some(RESTART_RETRY));
    }
    Status::with_error_details(code, failure.message, details)
}

/// The reason that `status` carries, for metrics: one of a bounded set.
pub(super) fn reason_of(status: &Status) -> &'static str {
    let name = status
        .get_details_error_info()
        .map(|info| format!("{PREFIX}{}", info.reason))
        .unwrap_or_default();
    let reason = ErrorReason::from_str_name(&name).unwrap_or_default();
    bare(reason)
}

/// The name of `reason` as it goes over the wire.
fn bare(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix(PREFIX).unwrap_or(name)
}

fn details<const N: usize>(reason: ErrorReason, metadata: [(&str, String); N]) -> ErrorDetails {
    let metadata: HashMap<_, _> = metadata
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    ErrorDetails::with_error_info(bare(reason), DOMAIN, metadata)
}

impl From<UnknownModel> for ApiError {
    fn from(error: UnknownModel) -> Self {
        Self::UnknownModel(error)
    }
}

impl From<LoadError> for ApiError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Unknown(unknown) => Self::UnknownModel(unknown),
            LoadError::Source(error @ SourceError::NotAllowed { .. }) => {
                Self::SourceNotAllowed(error.to_string())
            }
            LoadError::Source(error @ SourceError::Unreadable { .. }) => Self::Failed(error.into()),
            LoadError::Register(RegisterError::Conflict(entry)) => Self::SpecConflict {
                model: entry.id.to_string(),
                version: entry.version,
            },
            LoadError::Register(RegisterError::Full(limit)) => Self::Limit {
                what: "registered models",
                limit,
            },
            LoadError::ShuttingDown => Self::ShuttingDown,
        }
    }
}

#[cfg(test)]
mod tests;
