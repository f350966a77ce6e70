//! Drives what is to what was asked for when the server starts.
//!
//! What was asked for is in the catalog: a model that is desired, required or to be preloaded is loaded, the
//! required ones first, then by priority, then those used last. Suspended ones are left alone. A marker of an
//! attempt that nobody saw the end of means that the server died with it: it counts as a failed one.

use std::{cmp::Reverse, sync::Arc};

use super::{
    command::LoadOrder,
    context::Context,
    loader::{LoadError, Loader},
    switch::Switcher,
};
use crate::catalog::{CatalogEntry, Note, StorageError};

/// Drives what is to what was asked for, once.
pub(super) struct Reconciler {
    context: Arc<Context>,
    loader: Arc<Loader>,
    switcher: Arc<Switcher>,
}

impl Reconciler {
    pub(super) fn new(context: Arc<Context>, loader: Arc<Loader>, switcher: Arc<Switcher>) -> Self {
        Self {
            context,
            loader,
            switcher,
        }
    }

    /// Begins all loads that were asked for, and brings switches to an end that a crash interrupted.
    ///
    /// # Errors
    ///
    /// When the catalog cannot be read.
    pub(super) async fn reconcile(&self) -> Result<(), StorageError> {
        self.switcher.recover().await?;
        let mut wanted: Vec<CatalogEntry> = self.context.catalog.wanted().await?;
        wanted.sort_by_key(|entry| {
            let spec = &entry.spec;
            let used = entry.learned.last_used;
            Reverse((spec.required, spec.priority, used))
        });
        let asked_for = |entry: &CatalogEntry| {
            entry.spec.required
                || entry.spec.preload
                || (entry.desired && entry.suspended.is_none())
        };
        let required = wanted.iter().filter(|entry| entry.spec.required);
        self.context
            .await_required(required.map(|entry| entry.id.clone()));
        for mut entry in wanted {
            if !asked_for(&entry) {
                self.end_stale_attempt(&entry);
                if self.context.model(&entry.id).is_none() {
                    let suspension = entry.suspended.clone();
                    self.context.event_log.suspended(&entry.id, suspension);
                }
                continue;
            }
            let id = entry.id.clone();
            let _turn = self.context.desired_state_lock.lock().await;
            self.context.note_desired(&id, true);
            entry.desired = true;
            let order = LoadOrder {
                crashed: entry.attempt.clone(),
                // The others have what the required ones leave.
                may_evict: entry.spec.required,
                ..LoadOrder::by_the_server(self.context.limits.load_timeout)
            };
            match self.loader.order(entry, order).await {
                Ok(_) | Err(LoadError::ShuttingDown) => {}
                Err(error) => tracing::error!(model = %id, %error, "cannot be loaded at the start"),
            }
        }
        Ok(())
    }

    /// An attempt of a model that is not to be loaded any more does not count.
    fn end_stale_attempt(&self, entry: &CatalogEntry) {
        if let Some(attempt) = entry.attempt.clone() {
            let note = Note::AttemptEnded(attempt);
            self.context.catalog.note(&entry.id, note);
        }
    }
}
