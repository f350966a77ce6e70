//! The errors that callers get when the lifecycle refuses.

use super::{ApiError, catalog_refusal::CatalogRefusal};
use crate::{
    catalog::NameTaken,
    lifecycle::{
        FindError, LoadError, RoutingError, SourceError, SwitchError, TooManyReloads,
        TooManySessions, UnknownSession, UnloadError, WaitError,
    },
    model::ModelId,
};

impl From<FindError> for ApiError {
    fn from(error: FindError) -> Self {
        match error {
            FindError::Unknown(unknown) => Self::UnknownModel(unknown),
            FindError::Storage(error) => error.into(),
        }
    }
}

impl From<RoutingError> for ApiError {
    fn from(error: RoutingError) -> Self {
        match error {
            RoutingError::Find(error) => error.into(),
            RoutingError::NotLoaded { model, why } => Self::NotLoaded {
                model: model.to_string(),
                why,
            },
            RoutingError::Loading { model, retry } => Self::Loading {
                model: model.to_string(),
                retry,
            },
            RoutingError::QueueFull { limit } => Self::QueueFull { limit },
            RoutingError::Failed(failure) => Self::Failed(failure),
            RoutingError::DeadlineExceeded => Self::DeadlineExceeded,
            RoutingError::ShuttingDown => Self::ShuttingDown,
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
            LoadError::TooManyReloads(TooManyReloads { limit }) => Self::TooManyReloads { limit },
            LoadError::Register(error) => error.into(),
            LoadError::Storage(error) => error.into(),
            LoadError::ShuttingDown => Self::ShuttingDown,
            LoadError::ModelTaskFailed => Self::Internal(error.to_string()),
        }
    }
}

impl From<WaitError> for ApiError {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Failed {
                model,
                desired,
                declared,
                failure,
            } => Self::LoadFailed {
                model: model.to_string(),
                desired,
                declared,
                failure,
            },
            WaitError::Ended(failure) => Self::Failed(failure),
            WaitError::ShuttingDown => Self::ShuttingDown,
        }
    }
}

impl From<SourceError> for ApiError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::NotAllowed { .. } | SourceError::RepositoryNotAllowed { .. } => {
                Self::SourceNotAllowed(error.to_string())
            }
            SourceError::Unreadable { .. }
            | SourceError::NoModel { .. }
            | SourceError::Unresponsive(_) => Self::Failed(error.into()),
        }
    }
}

impl From<SwitchError> for ApiError {
    fn from(error: SwitchError) -> Self {
        match error {
            SwitchError::Load(error) => error.into(),
            SwitchError::NotAnAlias(id) => CatalogRefusal::Taken(NameTaken {
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
            UnloadError::ModelTaskFailed => Self::Internal(error.to_string()),
            UnloadError::Storage(error) => error.into(),
        }
    }
}
