//! The errors that callers get when the catalog refuses.

use super::{ApiError, catalog_refusal::CatalogRefusal};
use crate::{
    catalog::{DeleteError, RegisterError, StorageError, UpdateError},
    lifecycle::{RegistryError, UnknownModel},
};

impl From<CatalogRefusal> for ApiError {
    fn from(refusal: CatalogRefusal) -> Self {
        Self::Catalog(refusal)
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Full => CatalogRefusal::StorageFull.into(),
            StorageError::Failed(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<RegisterError> for ApiError {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::Conflict(entry) => Self::SpecConflict {
                model: entry.id.to_string(),
                version: entry.version,
            },
            RegisterError::Taken(taken) => CatalogRefusal::Taken(taken).into(),
            RegisterError::Full(limit) => Self::Limit {
                what: "registered models",
                limit,
            },
            RegisterError::Declared(id) => CatalogRefusal::Declared(id).into(),
            RegisterError::Unknown(id) => Self::UnknownModel(UnknownModel {
                id,
                known: Vec::new(),
            }),
            RegisterError::Storage(error) => error.into(),
        }
    }
}

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        let unknown_model = |id| UnknownModel {
            id,
            known: Vec::new(),
        };
        match error {
            RegistryError::Unknown(unknown) => Self::UnknownModel(unknown),
            RegistryError::Source(error) => error.into(),
            RegistryError::Create(error) => error.into(),
            RegistryError::Update(id, error) => Self::of_update(error, unknown_model(id)),
            RegistryError::Delete(id, error) => Self::of_delete(error, unknown_model(id)),
            RegistryError::Loaded(id) => CatalogRefusal::Loaded(id).into(),
            RegistryError::Storage(error) => error.into(),
            RegistryError::ShuttingDown => Self::ShuttingDown,
            RegistryError::ModelTaskFailed => Self::Internal(error.to_string()),
        }
    }
}

impl ApiError {
    /// What `error` says about a change of the entry of `model`, where that is known.
    fn of_update(error: UpdateError, model: UnknownModel) -> Self {
        match error {
            UpdateError::Unknown => Self::UnknownModel(model),
            UpdateError::Stale(etag) => CatalogRefusal::Stale {
                model: model.id,
                etag,
            }
            .into(),
            UpdateError::Declared => CatalogRefusal::Declared(model.id).into(),
            UpdateError::Taken(taken) => CatalogRefusal::Taken(taken).into(),
            UpdateError::Storage(error) => error.into(),
        }
    }

    /// What `error` says about a removal of the entry of `model`.
    pub(in crate::rpc) fn of_delete(error: DeleteError, model: UnknownModel) -> Self {
        match error {
            DeleteError::Unknown => Self::UnknownModel(model),
            DeleteError::Stale(etag) => CatalogRefusal::Stale {
                model: model.id,
                etag,
            }
            .into(),
            DeleteError::Declared => CatalogRefusal::Declared(model.id).into(),
            DeleteError::Aliased(aliases) => CatalogRefusal::Aliased {
                model: model.id,
                aliases,
            }
            .into(),
            DeleteError::Storage(error) => error.into(),
        }
    }
}
