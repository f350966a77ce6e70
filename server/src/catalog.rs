//! What is registered: specs by model id, with versions and validators.

mod memory;

use std::{sync::Arc, time::SystemTime};

use futures::future::BoxFuture;

use crate::model::{Etag, ModelId, Spec};

pub use memory::MemoryCatalog;

/// A registered model.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The model.
    pub id: ModelId,
    /// How it is to be run.
    pub spec: Arc<Spec>,
    /// Rises by one with each change of the spec, from 1.
    pub version: u64,
    /// Strong validator of the spec.
    pub etag: Etag,
    /// When it was registered.
    pub created: SystemTime,
    /// When the spec was changed last.
    pub updated: SystemTime,
}

/// What to do with a model that is registered with another spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// Leave it as it is and refuse.
    Refuse,
    /// Replace its spec.
    Replace,
}

/// A spec that was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The model is registered with another spec.
    #[error("the model is registered with another spec")]
    Conflict(Box<Entry>),
    /// There are as many models as there may be.
    #[error("there are {0} models already")]
    Full(usize),
}

/// Keeps what is registered. One writer at a time: each call is atomic.
pub trait Catalog: Send + Sync + 'static {
    /// Registers `spec` under `id`. The same spec again changes nothing.
    ///
    /// # Errors
    ///
    /// See [`RegisterError`].
    fn register(
        &self,
        id: ModelId,
        spec: Spec,
        on_conflict: OnConflict,
    ) -> BoxFuture<'_, Result<Entry, RegisterError>>;

    /// The entry of `id`.
    fn get<'a>(&'a self, id: &'a ModelId) -> BoxFuture<'a, Option<Entry>>;

    /// At most `limit` entries, by id.
    fn list(&self, limit: usize) -> BoxFuture<'_, Vec<Entry>>;
}
