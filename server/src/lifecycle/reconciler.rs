//! Drives what is to what was asked for when the server starts.
//!
//! What was asked for is in the catalog: a model that is desired, required or to be preloaded is loaded, the
//! required ones first, then by priority, then those used last. Suspended ones are left alone. A marker of an
//! attempt that nobody saw the end of means that the server died with it: it counts as a failed one.

use std::{cmp::Reverse, sync::Arc};

use super::{
    command::LoadInstruction,
    context::Context,
    loader::{LoadError, Loader},
    switch::Switcher,
};
use crate::{
    catalog::{CatalogEntry, DeferredWrite, StorageError},
    failpoint,
};

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
    /// When the catalog cannot be read: what was asked for is not known then.
    pub(super) async fn reconcile(&self) -> Result<(), StorageError> {
        self.switcher.recover().await?;
        let mut found: Vec<CatalogEntry> = self.context.catalog.to_reconcile().await?;
        found.sort_by_key(|entry| {
            let spec = &entry.spec;
            let used = entry.learned.last_used;
            Reverse((spec.required, spec.priority, used))
        });
        let required = found.iter().filter(|entry| entry.spec.required);
        self.context
            .await_required(required.map(|entry| entry.id.clone()));
        self.loader
            .desired_state()
            .begin_reconcile(found.iter().map(|entry| entry.id.clone()));
        failpoint::hold("reconcile", None).await;
        for entry in found {
            let id = entry.id.clone();
            match self.reconcile_model(entry).await {
                Ok(()) | Err(LoadError::ShuttingDown) => {}
                Err(LoadError::Storage(error)) => return Err(error),
                Err(error) => {
                    tracing::error!(model = %id, %error, "cannot be loaded at the start");
                    self.context.record_first_outcome(&id);
                }
            }
        }
        Ok(())
    }

    /// Begins the load of the model that was `found`, if it is still asked for: the server serves by now, and others may have
    /// unloaded, changed or deleted it.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    async fn reconcile_model(&self, found: CatalogEntry) -> Result<(), LoadError> {
        let id = found.id.clone();
        let locked = self.loader.desired_state().lock_at_once(&id).await;
        let is_left = locked.take_from_reconcile();
        let entry = locked.entry().await?;
        let Some(entry) = entry.filter(|entry| entry.uid == found.uid) else {
            self.context.record_first_outcome(&id);
            return Ok(());
        };
        // Of one that was loaded meanwhile the marker is that of its load.
        let crashed = found.attempt.filter(|_| self.context.model(&id).is_none());
        if !is_left || !is_asked_for(&entry) {
            if let Some(attempt) = crashed {
                // Of a model that is not to be loaded any more it does not count.
                self.context
                    .catalog
                    .defer_write(&id, DeferredWrite::AttemptEnded(attempt));
            }
            self.context.record_first_outcome(&id);
            return Ok(());
        }
        let instruction = LoadInstruction {
            crashed,
            // The others have what the required ones leave.
            may_evict: entry.spec.required,
            ..LoadInstruction::by_the_server(self.context.limits.load_timeout)
        };
        let queued = locked.load_at_start(entry, instruction).await;
        self.loader.ticket(queued).await.map(drop)
    }
}

/// Whether a model is to be loaded by the server itself.
fn is_asked_for(entry: &CatalogEntry) -> bool {
    let spec = &entry.spec;
    spec.required || spec.preload || (entry.desired && entry.suspended.is_none())
}
