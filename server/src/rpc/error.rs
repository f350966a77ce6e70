//! What callers are told when something goes wrong.

mod bare;
mod catalog;
mod lifecycle;

use std::{collections::HashMap, time::Duration};

use hangar_client::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

use crate::{
    lifecycle::{Holder, UnknownModel, UnknownSession},
    model::{Failure, Reason},
};

pub use bare::completed;
pub use catalog::CatalogRefusal;

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
    /// The model has another version.
    UnknownVersion {
        /// The model.
        model: String,
        /// The version that it has.
        version: u64,
    },
    /// The source may not be used.
    SourceNotAllowed(String),
    /// The spec differs from the registered one.
    SpecConflict {
        /// The model.
        model: String,
        /// The registered spec's version.
        version: u64,
    },
    /// The catalog refuses.
    Catalog(CatalogRefusal),
    /// No such session.
    UnknownSession(UnknownSession),
    /// The model is required.
    Required(String),
    /// Others hold the model.
    Held {
        /// The model.
        model: String,
        /// Who.
        holders: Vec<Holder>,
    },
    /// Another switch of the alias is under way.
    SwitchInProgress(String),
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
        /// Why, in words, where that is known.
        why: Option<String>,
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
    /// A load failed that somebody asked for.
    LoadFailed {
        /// The model, which stays registered.
        model: String,
        /// Whether it stays to be loaded.
        desired: bool,
        /// Whether the configuration file declares it.
        declared: bool,
        /// Why.
        failure: Failure,
    },
    /// A call to a worker broke off, while the worker lives.
    CallBroken,
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

/// Nobody is sent back sooner, which would be before anything has changed.
const SHORTEST_RETRY: Duration = Duration::from_millis(100);

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
            ApiError::UnknownVersion { model, version } => {
                let message = format!(
                    "model {model} has version {version} only; give that, or none for whatever there is"
                );
                let metadata = [
                    ("model_id", model.clone()),
                    ("version", version.to_string()),
                ];
                let mut details = details(ErrorReason::ModelNotFound, metadata);
                let what = "no such version is registered";
                details.set_resource_info("hangar.v1.Model", model, "", what);
                Status::with_error_details(Code::NotFound, message, details)
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
            ApiError::Catalog(refusal) => refusal.into(),
            ApiError::UnknownSession(unknown) => {
                let mut details = details(ErrorReason::SessionNotFound, []);
                // Nameless, as the id is a secret.
                let what = "no session of this id is open";
                details.set_resource_info("hangar.v1.Session", "", "", what);
                Status::with_error_details(Code::NotFound, unknown.to_string(), details)
            }
            ApiError::Required(model) => {
                let message =
                    format!("model {model} is required; give force to unload it all the same");
                let metadata = [("model_id", model.clone())];
                let mut details = details(ErrorReason::ModelRequired, metadata);
                details.add_precondition_failure_violation("REQUIRED", model, message.clone());
                Status::with_error_details(Code::FailedPrecondition, message, details)
            }
            ApiError::Held { model, holders } => {
                let holders: Vec<_> = holders.iter().map(ToString::to_string).collect();
                let holders = holders.join(",");
                let message = format!(
                    "model {model} is held by {holders}; wait until they let go, or give force to unload it all the \
                     same"
                );
                let metadata = [("model_id", model.clone()), ("holders", holders)];
                let mut details = details(ErrorReason::ModelHeld, metadata);
                details.add_precondition_failure_violation("HELD", model, message.clone());
                Status::with_error_details(Code::FailedPrecondition, message, details)
            }
            ApiError::SwitchInProgress(alias) => Status::with_error_details(
                Code::Aborted,
                format!(
                    "another switch of {alias} is under way; wait for its outcome, which WatchStatus tells, and try \
                     again"
                ),
                details(ErrorReason::SwitchInProgress, [("alias", alias)]),
            ),
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
            ApiError::NotLoaded { model, why } => {
                let why = why.map(|why| format!("; {why}")).unwrap_or_default();
                Status::with_error_details(
                    Code::FailedPrecondition,
                    format!("model {model} is not loaded; load it with LoadModel{why}"),
                    details(ErrorReason::ModelNotLoaded, [("model_id", model)]),
                )
            }
            ApiError::Loading { model, retry } => {
                let retry = retry.max(SHORTEST_RETRY);
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
            ApiError::Failed(failure) => failed(failure, []),
            ApiError::LoadFailed {
                model,
                desired,
                declared,
                failure,
            } => lifecycle::load_failed(model, desired, declared, failure),
            ApiError::CallBroken => {
                let mut details = details(ErrorReason::CallBroken, []);
                details.set_retry_info(Some(RESTART_RETRY));
                let message = "the connection to the model's worker broke; try again";
                Status::with_error_details(Code::Unavailable, message, details)
            }
            ApiError::ShuttingDown => failed(
                Failure::new(Reason::ShuttingDown, "the server is shutting down"),
                [],
            ),
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
            ApiError::Internal(cause) => internal(&cause, [], None),
        }
    }
}

/// The status of what only the operator can do something about: the log has the cause, and the caller its id, with
/// what `left` says of what is left behind.
fn internal<const N: usize>(
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
fn failed<const N: usize>(failure: Failure, metadata: [(&str, String); N]) -> Status {
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

fn details<'a>(
    reason: ErrorReason,
    metadata: impl IntoIterator<Item = (&'a str, String)>,
) -> ErrorDetails {
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

#[cfg(test)]
mod tests;
