//! From the name of a model to its entry.

use super::Context;
use crate::{
    catalog::{CatalogEntry, StorageError},
    model::ModelId,
};

/// An id that nothing is registered under.
#[derive(Debug, thiserror::Error)]
#[error("no model {id} is registered; give LoadModel a spec to register it")]
pub struct UnknownModel {
    /// The id.
    pub id: ModelId,
    /// Ids that are known, at most ten.
    pub known: Vec<ModelId>,
}

/// A name that stands for no model, or whose model cannot be looked up.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// No such model.
    #[error(transparent)]
    Unknown(#[from] UnknownModel),
    /// The catalog cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Ids that an error names.
const KNOWN_IDS: usize = 10;

impl Context {
    /// The entry that `name`, an id or an alias, stands for.
    ///
    /// # Errors
    ///
    /// When there is none, or the catalog cannot be read.
    pub(in crate::lifecycle) async fn find(
        &self,
        name: &ModelId,
    ) -> Result<CatalogEntry, FindError> {
        match self.catalog.get(name).await? {
            Some(entry) => Ok(entry),
            None => Err(self.unknown(name).await.into()),
        }
    }

    /// What to say of `id`, which nothing is registered under.
    pub(in crate::lifecycle) async fn unknown(&self, id: &ModelId) -> UnknownModel {
        // Without the hint the error is as good.
        let known = self.catalog.known(KNOWN_IDS).await.unwrap_or_default();
        UnknownModel {
            id: id.clone(),
            known,
        }
    }
}
