//! What aliases stand for, in memory.
//!
//! Invariant: as in the last commit. Only the writer changes it, right after that.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use crate::model::ModelId;

/// What aliases stand for.
#[derive(Debug, Default)]
pub(super) struct Names(RwLock<HashMap<ModelId, ModelId>>);

/// An alias that points at a model, or at none any more.
pub(super) type Renamed = (ModelId, Option<ModelId>);

impl Names {
    pub(super) fn new(names: HashMap<ModelId, ModelId>) -> Self {
        Self(RwLock::new(names))
    }

    /// What `name` stands for: itself if it is no alias.
    pub(super) fn resolve(&self, name: &ModelId) -> ModelId {
        // Nothing panics while it holds the lock.
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        names.get(name).unwrap_or(name).clone()
    }

    /// Takes changes over, in their order and all at once.
    pub(super) fn apply(&self, changes: Vec<Renamed>) {
        if changes.is_empty() {
            return;
        }
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (alias, target) in changes {
            match target {
                Some(target) => names.insert(alias, target),
                None => names.remove(&alias),
            };
        }
    }
}
