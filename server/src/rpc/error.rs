//! The error that callers get when something goes wrong.

mod bare;
mod catalog;
mod catalog_refusal;
mod details;
mod lifecycle;
mod status;

use std::time::Duration;

pub use bare::completed;
pub use catalog_refusal::CatalogRefusal;
pub(super) use details::reason_of;
use details::{failed, internal};
pub(super) use status::trailers;
use tonic::Status;

use crate::{
    lifecycle::{Holder, UnknownModel, UnknownSession},
    model::{Failure, Reason},
    wire::InvalidFields,
};

/// What can go wrong with a call. One match turns it into a status.
#[derive(Debug)]
#[cfg_attr(
    test,
    derive(strum::EnumDiscriminants),
    strum_discriminants(
        name(ApiErrorKind),
        doc = "Errors without their data.",
        derive(strum::VariantArray)
    )
)]
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
    /// Requests take as much memory together as they may.
    RequestMemory {
        /// How much that is, in bytes.
        limit: usize,
    },
    /// The request alone takes more memory than all requests may.
    RequestTooLarge {
        /// How much that is, in bytes.
        limit: usize,
    },
    /// The request broke off.
    RequestStuck,
    /// As many requests of a call wait as may.
    TooManyOfACall {
        /// How many that is.
        limit: usize,
    },
    /// As many reloads wait for the inspection of their files as may.
    TooManyReloads {
        /// How many that is.
        limit: usize,
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
            ApiError::RequestMemory { limit } => status::request_memory(limit),
            ApiError::RequestTooLarge { limit } => status::request_too_large(limit),
            ApiError::RequestStuck => status::request_stuck(),
            ApiError::TooManyOfACall { limit } => status::too_many_of_a_call(limit),
            ApiError::TooManyReloads { limit } => status::too_many_reloads(limit),
            ApiError::Failed(failure) => failed(failure, []),
            ApiError::LoadFailed {
                model,
                desired,
                declared,
                failure,
            } => status::load_failed(model, desired, declared, failure),
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

impl From<InvalidFields> for ApiError {
    fn from(error: InvalidFields) -> Self {
        Self::Invalid(error.0)
    }
}

impl From<UnknownModel> for ApiError {
    fn from(error: UnknownModel) -> Self {
        Self::UnknownModel(error)
    }
}

#[cfg(test)]
mod tests;
