//! What is asked for, and how far that has come: desired state, attempts to load, and what loads teach.

use super::{
    Catalog, CatalogEntry, DeferredWrite, LoadAttempt, LoadRequest, RegisterError, RegisterOutcome,
    StorageError, change::Change, list,
};
use crate::model::ModelId;

impl Catalog {
    /// Takes note of whether a model is to be loaded. Either way it is no longer suspended.
    ///
    /// # Errors
    ///
    /// When that cannot be written.
    pub async fn set_desired(&self, id: &ModelId, desired: bool) -> Result<(), StorageError> {
        let id = id.clone();
        self.write(move |change| change.set_desired(&id, desired))
            .await
    }

    /// Registers what `request` names and takes note of whether it is to stay loaded, both or neither.
    ///
    /// # Errors
    ///
    /// See [`RegisterError`]. Then nothing has changed.
    pub async fn request_load(
        &self,
        request: LoadRequest,
    ) -> Result<RegisterOutcome, RegisterError> {
        let capacity = self.0.capacity;
        let work = move |change: &mut Change<'_>| change.request_load(request, capacity);
        self.0.writer.run(work).await
    }

    /// Takes note of an attempt to load a model before it begins.
    ///
    /// # Errors
    ///
    /// When that cannot be written.
    pub async fn begin_attempt(
        &self,
        id: &ModelId,
        attempt: LoadAttempt,
    ) -> Result<(), StorageError> {
        let id = id.clone();
        self.write(move |change| change.begin_attempt(&id, &attempt))
            .await
    }

    /// Has something written down soon, before any call that comes later. Never waits; what cannot be
    /// written is logged and lost.
    pub fn defer_write(&self, id: &ModelId, write: DeferredWrite) {
        self.0.writer.defer(id, write);
    }

    /// Entries that are to be loaded, are required or preloaded, or were being loaded: required ones first,
    /// then by falling priority, then by id.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub async fn to_reconcile(&self) -> Result<Vec<CatalogEntry>, StorageError> {
        self.read(list::to_reconcile).await
    }
}
