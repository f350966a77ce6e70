//! What callers are told when the lifecycle refuses.

use tonic::Status;

use super::{ApiError, CatalogRefusal, failed, internal};
use crate::{
    catalog::Taken,
    lifecycle::{
        AdmissionError, FindError, LoadError, SourceError, SwitchError, TooManySessions,
        UnknownSession, UnloadError,
    },
    model::{Failure, ModelId, Reason},
};

impl From<FindError> for ApiError {
    fn from(error: FindError) -> Self {
        match error {
            FindError::Unknown(unknown) => Self::UnknownModel(unknown),
            FindError::Storage(error) => error.into(),
        }
    }
}

impl From<AdmissionError> for ApiError {
    fn from(error: AdmissionError) -> Self {
        match error {
            AdmissionError::Find(error) => error.into(),
            AdmissionError::NotLoaded { model, why } => Self::NotLoaded {
                model: model.to_string(),
                why,
            },
            AdmissionError::Loading { model, retry } => Self::Loading {
                model: model.to_string(),
                retry,
            },
            AdmissionError::QueueFull { limit } => Self::QueueFull { limit },
            AdmissionError::Failed(failure) => Self::Failed(failure),
            AdmissionError::DeadlineExceeded => Self::DeadlineExceeded,
            AdmissionError::ShuttingDown => Self::ShuttingDown,
        }
    }
}

impl From<LoadError> for ApiError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Unknown(unknown) => Self::UnknownModel(unknown),
            LoadError::Session(unknown) => Self::UnknownSession(unknown),
            LoadError::Source(error) => error.into(),
            LoadError::Unfit(failure) => Self::Failed(failure),
            LoadError::Register(error) => error.into(),
            LoadError::Storage(error) => error.into(),
            LoadError::ShuttingDown => Self::ShuttingDown,
            LoadError::Lost => Self::Internal(error.to_string()),
        }
    }
}

impl From<SourceError> for ApiError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::NotAllowed { .. } | SourceError::RepositoryNotAllowed { .. } => {
                Self::SourceNotAllowed(error.to_string())
            }
            SourceError::Unreadable { .. } | SourceError::NoModel { .. } => {
                Self::Failed(error.into())
            }
        }
    }
}

impl From<SwitchError> for ApiError {
    fn from(error: SwitchError) -> Self {
        match error {
            SwitchError::Load(error) => error.into(),
            SwitchError::NotAnAlias(id) => CatalogRefusal::Taken(Taken {
                name: id.clone(),
                by: id,
            })
            .into(),
            SwitchError::InProgress(alias) => Self::SwitchInProgress(alias.to_string()),
        }
    }
}

impl From<UnknownSession> for ApiError {
    fn from(error: UnknownSession) -> Self {
        Self::UnknownSession(error)
    }
}

impl From<TooManySessions> for ApiError {
    fn from(TooManySessions(limit): TooManySessions) -> Self {
        Self::Limit {
            what: "sessions",
            limit,
        }
    }
}

impl ApiError {
    /// Why the model `id` was not unloaded.
    pub(in crate::rpc) fn of_unload(error: UnloadError, id: &ModelId) -> Self {
        match error {
            UnloadError::Unknown(unknown) => Self::UnknownModel(unknown),
            UnloadError::Required => Self::Required(id.to_string()),
            UnloadError::Held(holders) => Self::Held {
                model: id.to_string(),
                holders,
            },
            UnloadError::Lost => Self::Internal(error.to_string()),
            UnloadError::Storage(error) => error.into(),
        }
    }
}

/// The status of a failed load, which says what it left behind and how to be rid of that.
pub(super) fn load_failed(
    model: String,
    desired: bool,
    declared: bool,
    failure: Failure,
) -> Status {
    let left = match (desired, declared) {
        (true, true) => {
            "model stays to be loaded, and is tried again when the server starts: UnloadModel ends that"
        }
        (true, false) => {
            "model stays registered and to be loaded, and is tried again when the server starts: UnloadModel ends \
             that, DeleteModel removes it"
        }
        (false, true) => "model is not to be loaded by itself",
        (false, false) => {
            "model stays registered, and is not to be loaded by itself: DeleteModel removes it"
        }
    };
    let desired = if desired { "LOADED" } else { "UNLOADED" };
    let metadata = [("model_id", model), ("desired_state", desired.to_owned())];
    let message = &failure.message;
    if failure.reason == Reason::Internal {
        return internal(message, metadata, Some(left));
    }
    let message = match message.ends_with('.') {
        true => format!("{message} The {left}"),
        false => format!("{message}; the {left}"),
    };
    failed(Failure { message, ..failure }, metadata)
}
