//! The model that a request names.

use std::sync::Arc;

use crate::{
    lifecycle::{KnownKind, TrackedModel},
    model::ModelId,
};

/// A registered model that a request names.
pub(super) struct NamedModel {
    /// The name that the request has: its id, or an alias.
    pub(super) requested_name: ModelId,
    pub(super) id: ModelId,
    pub(super) version: u64,
    pub(super) kind: KnownKind,
    /// Numbers in a vector of an embedding model; zero until its first load has shown it.
    pub(super) embedding_size: u32,
    /// If it was loaded or asked for since the start.
    pub(super) model: Option<Arc<TrackedModel>>,
}
