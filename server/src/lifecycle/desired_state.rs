//! What is wanted of models, and who holds them: the only writer of both, with the locks that keep writers of one model apart.
//!
//! Invariants: what is on disk of a model is what is remembered of it, and what its driver heard last. Who has locked a model
//! ([`LockedModel`]) has its entry, what is wanted of it, its new holders and the deletion that begins to himself; each of its
//! methods commits, remembers and instructs in one go. An instruction that waits for room in the queue of a driver is waited for with
//! the lock of that one model and no other. Nobody waits for a reply of a driver with a lock in hand.
//!
//! What a name stands for changes only under the lock of that name and of the model that it stood for, so that a model that was
//! looked up by its alias, and locked, is still the one that was meant. Who comes for a model that is being deleted waits for the end
//! of that, unless it is locked `at_once`.

mod hold;
mod load;
mod switch;
#[cfg(test)]
mod tests;
mod unload;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub(super) use load::{NotQueued, QueuedLoad};
pub(super) use switch::BegunSwitch;
pub(super) use unload::QueuedUnload;

use super::{
    context::Context,
    deletions::{Deletion, Deletions},
    holders::HoldersWriter,
    name_locks::{LockedNames, NameLocks},
};
use crate::{
    catalog::{CatalogEntry, StorageError},
    model::ModelId,
};

/// What is wanted of all models, and who holds them.
pub(super) struct DesiredState {
    context: Arc<Context>,
    locks: NameLocks,
    deletions: Deletions,
    holders: HoldersWriter,
    /// Models that were to be loaded when the server started, whose turn has not come and which nobody has unloaded since.
    pending_reconcile: Mutex<BTreeSet<ModelId>>,
}

/// A model that nobody else changes until this is dropped: its entry, what is wanted of it, who comes to hold it.
#[must_use]
pub(super) struct LockedModel<'a> {
    desired_state: &'a DesiredState,
    id: ModelId,
    names: LockedNames,
}

impl DesiredState {
    /// Nothing is known to be wanted yet. `holders` are those that `context` reads.
    pub(super) fn new(context: Arc<Context>, holders: HoldersWriter) -> Arc<Self> {
        Arc::new(Self {
            context,
            locks: NameLocks::default(),
            deletions: Deletions::default(),
            holders,
            pending_reconcile: Mutex::default(),
        })
    }

    /// Locks the model that `name` stands for, of which no deletion is under way. Safe to cancel.
    pub(super) async fn lock(&self, name: &ModelId) -> LockedModel<'_> {
        self.lock_to_update(name, &[]).await
    }

    /// As [`Self::lock`], with names that the model may get.
    pub(super) async fn lock_to_update(
        &self,
        name: &ModelId,
        aliases: &[ModelId],
    ) -> LockedModel<'_> {
        loop {
            let locked = self.lock_with_names(name, aliases).await;
            let Some(ended) = self.deletions.under_way(&locked.id) else {
                return locked;
            };
            drop(locked);
            ended.cancelled().await;
        }
    }

    /// Locks the model that `name` stands for, also while it is being deleted. Safe to cancel.
    pub(super) async fn lock_at_once(&self, name: &ModelId) -> LockedModel<'_> {
        self.lock_with_names(name, &[]).await
    }

    /// The reconciler begins, and will come to these models one after the other.
    pub(super) fn begin_reconcile(&self, models: impl IntoIterator<Item = ModelId>) {
        self.pending_reconcile().extend(models);
    }

    /// As [`Self::lock_at_once`], with names that the model may get. `name` may stand for nothing yet.
    pub(super) async fn lock_with_names(
        &self,
        name: &ModelId,
        aliases: &[ModelId],
    ) -> LockedModel<'_> {
        let resolve = || [self.context.catalog.resolve(name)];
        let ([id], names) = self.lock_resolved(resolve, aliases).await;
        LockedModel {
            desired_state: self,
            id,
            names,
        }
    }

    /// Locks what `resolve` gives, which it gives for as long as this is locked, and `others`.
    async fn lock_resolved<const N: usize>(
        &self,
        resolve: impl Fn() -> [ModelId; N],
        others: &[ModelId],
    ) -> ([ModelId; N], LockedNames) {
        loop {
            let resolved = resolve();
            let names = resolved.iter().chain(others).cloned();
            let names = self.locks.lock(names).await;
            // An alias may have moved before it was locked.
            if resolve() == resolved {
                return (resolved, names);
            }
        }
    }

    /// What is wanted of the model `id`, after that was committed, under its lock. The reconciler leaves alone what nobody wants
    /// any more.
    fn remember(&self, id: &ModelId, desired: bool) {
        if !desired {
            self.pending_reconcile().remove(id);
        }
        if let Some(model) = self.context.model(id) {
            model.update_facts(|facts| facts.desired = desired);
        }
    }

    fn pending_reconcile(&self) -> MutexGuard<'_, BTreeSet<ModelId>> {
        self.pending_reconcile
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> LockedModel<'a> {
    /// The model. Where nothing is registered under the name that was locked, that name.
    pub(super) fn id(&self) -> &ModelId {
        &self.id
    }

    /// What is registered.
    ///
    /// # Errors
    ///
    /// When the catalog cannot be read.
    pub(super) async fn entry(&self) -> Result<Option<CatalogEntry>, StorageError> {
        self.context().catalog.get(&self.id).await
    }

    /// Tells watchers and the driver that the model was registered, or changed from `before`. From here on only the model itself
    /// is locked.
    pub(super) async fn announce(&mut self, before: Option<&CatalogEntry>, after: &CatalogEntry) {
        // Who hears of the change, or locks an alias of it, finds it.
        if let Some(model) = self.context().model(&after.id) {
            model.set_entry(after);
        }
        self.names.keep_only(&self.id);
        self.context().announce(before, after).await;
    }

    /// It is the turn of the model at the start of the server. Says whether it is still to be loaded: whether nobody has
    /// unloaded it since the reconciler began.
    pub(super) fn take_from_reconcile(&self) -> bool {
        self.desired_state.pending_reconcile().remove(&self.id)
    }

    /// The deletion of the model begins, and lasts until what this gives is dropped: whoever wants something of the model waits for
    /// that, but not for its lock.
    pub(super) fn begin_deletion(self) -> Deletion<'a> {
        self.desired_state.deletions.begin(&self.id)
    }

    fn context(&self) -> &'a Arc<Context> {
        &self.desired_state.context
    }
}
