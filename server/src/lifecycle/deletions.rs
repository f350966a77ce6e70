//! Deletions that are under way.
//!
//! A deletion was checked before it begins, and takes as long as the model's worker needs to go. What is asked of the model
//! meanwhile waits for its end and finds what there is then, so that nothing is promised that goes with the entry.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::model::ModelId;

/// The deletions that are under way, and what their ends are told by.
#[derive(Debug, Default)]
pub(super) struct Deletions(Mutex<BTreeMap<ModelId, CancellationToken>>);

/// A deletion, which is under way until this is dropped.
#[derive(Debug)]
pub(super) struct Deletion<'a> {
    deletions: &'a Deletions,
    id: ModelId,
    // Dropped last: who waits finds none under way.
    _ended: DropGuard,
}

impl Deletions {
    /// The deletion of the model `id`, of which none is under way, begins. Only under the lock of the model.
    pub(super) fn begin(&self, id: &ModelId) -> Deletion<'_> {
        let ended = CancellationToken::new();
        self.lock().insert(id.clone(), ended.clone());
        Deletion {
            deletions: self,
            id: id.clone(),
            _ended: ended.drop_guard(),
        }
    }

    /// What is cancelled at the end of the deletion of the model `id`, if one is under way. It is waited for without the lock of the
    /// model.
    pub(super) fn under_way(&self, id: &ModelId) -> Option<CancellationToken> {
        self.lock().get(id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ModelId, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Deletion<'_> {
    fn drop(&mut self) {
        self.deletions.lock().remove(&self.id);
    }
}
