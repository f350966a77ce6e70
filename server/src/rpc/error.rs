//! What callers are told when something goes wrong.

mod bare;
mod catalog;
mod lifecycle;
mod status;

use std::{collections::HashMap, time::Duration};

pub use bare::completed;
pub use catalog::CatalogRefusal;
use hangar_client::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

use crate::{
    lifecycle::{Holder, UnknownModel, UnknownSession},
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

/// When to ask again after a fault that a restart cures.
const RESTART_RETRY: Duration = Duration::from_secs(1);

impl ApiError {
    /// One wrong field.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![(field.into(), description.into())])
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Invalid(violations) => status::invalid(violations),
            ApiError::InvalidToken => status::invalid_token(),
            ApiError::UnknownModel(unknown) => status::unknown_model(&unknown),
            ApiError::UnknownVersion { model, version } => status::unknown_version(model, version),
            ApiError::SourceNotAllowed(message) => status::source_not_allowed(message),
            ApiError::SpecConflict { model, version } => status::spec_conflict(model, version),
            ApiError::Catalog(refusal) => refusal.into(),
            ApiError::UnknownSession(unknown) => status::unknown_session(&unknown),
            ApiError::Required(model) => status::required(model),
            ApiError::Held { model, holders } => status::held(model, &holders),
            ApiError::SwitchInProgress(alias) => status::switch_in_progress(alias),
            ApiError::Limit { what, limit } => status::limit_reached(what, limit),
            ApiError::NotImplemented(field) => status::not_implemented(field),
            ApiError::NotLoaded { model, why } => status::not_loaded(model, why),
            ApiError::Loading { model, retry } => status::loading(model, retry),
            ApiError::QueueFull { limit } => status::queue_full(limit),
            ApiError::Failed(failure) => failed(failure, []),
            ApiError::LoadFailed {
                model,
                desired,
                declared,
                failure,
            } => lifecycle::load_failed(model, desired, declared, failure),
            ApiError::CallBroken => status::call_broken(),
            ApiError::ShuttingDown => {
                let failure = Failure::new(Reason::ShuttingDown, "the server is shutting down");
                failed(failure, [])
            }
            ApiError::RequestIdReused => status::request_id_reused(),
            ApiError::DeadlineExceeded => status::deadline_exceeded(),
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
