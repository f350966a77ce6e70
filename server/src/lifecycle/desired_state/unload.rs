//! Unloads: what is no longer wanted is committed, remembered, and in the queue of the model's driver before anybody else has the
//! model.

use std::{sync::Arc, time::Duration};

use super::LockedModel;
use crate::{
    catalog::{CatalogEntry, DeferredWrite, StorageError},
    lifecycle::{
        command::{DriverCommand, UnloadCommand, UnloadReport},
        driver_reply::DriverReply,
        tracked_model::TrackedModel,
    },
    model::StateKind,
};

/// An unload that is in the queue of a driver.
#[derive(Debug)]
#[must_use]
pub(in crate::lifecycle) struct QueuedUnload {
    pub(in crate::lifecycle) model: Arc<TrackedModel>,
    pub(in crate::lifecycle) report: DriverReply<UnloadReport>,
}

impl LockedModel<'_> {
    /// The model is not to be loaded any more, and nobody holds it: has its driver unload it. `None`: it has none.
    ///
    /// # Errors
    ///
    /// When that cannot be written. Then nothing has changed.
    pub(in crate::lifecycle) async fn unload(
        self,
        drain_timeout: Duration,
    ) -> Result<Option<QueuedUnload>, StorageError> {
        self.clear_desired().await?;
        // Nobody has come since the holders were looked at: that takes the lock.
        self.desired_state.holders.remove_all(&self.id);
        Ok(self.enqueue_unload(drain_timeout, true).await)
    }

    /// Has the driver of the model unload it, whatever is wanted, which stays as it is. `None`: it has none.
    pub(in crate::lifecycle) async fn unload_for_now(
        self,
        drain_timeout: Duration,
    ) -> Option<QueuedUnload> {
        self.enqueue_unload(drain_timeout, false).await
    }

    /// The model is not to be loaded any more if it has no worker and gets none by itself, as it is suspended or has FAILED;
    /// without `force` only if it is not required. Otherwise it stays as it is.
    ///
    /// # Errors
    ///
    /// When the catalog cannot be read or written.
    pub(in crate::lifecycle) async fn clear_if_inactive(
        self,
        force: bool,
    ) -> Result<(), StorageError> {
        let model = self.context().model(&self.id);
        let state = model.map(|model| model.status().state);
        if state.is_some_and(StateKind::is_active) {
            return Ok(());
        }
        let entry = self.entry().await?;
        let may_go = |entry: &CatalogEntry| force || !entry.spec.required;
        let Some(entry) = entry.filter(may_go) else {
            return Ok(());
        };
        if !entry.desired {
            // The start is not to load it all the same.
            self.desired_state.remember(&self.id, false);
            self.unsuspend();
            return Ok(());
        }
        self.clear_desired().await?;
        if state == Some(StateKind::Unloaded) {
            // No longer suspended. Nobody waits for the report.
            drop(self.enqueue_unload(Duration::ZERO, true).await);
        }
        Ok(())
    }

    async fn clear_desired(&self) -> Result<(), StorageError> {
        let context = self.context();
        context.catalog.set_desired(&self.id, false).await?;
        self.desired_state.remember(&self.id, false);
        self.unsuspend();
        Ok(())
    }

    /// The model is suspended no longer. Its driver sees to that, where it has one.
    fn unsuspend(&self) {
        let context = self.context();
        if context.model(&self.id).is_none() && context.event_log.unsuspend(&self.id) {
            let unsuspended = DeferredWrite::Suspended(None);
            context.catalog.defer_write(&self.id, unsuspended);
        }
    }

    async fn enqueue_unload(
        self,
        drain_timeout: Duration,
        clear_desired: bool,
    ) -> Option<QueuedUnload> {
        let model = self.context().model(&self.id)?;
        let command = |reply| {
            DriverCommand::Unload(UnloadCommand {
                clear_desired,
                ..UnloadCommand::new(drain_timeout, reply)
            })
        };
        // A driver that is gone has left no worker behind.
        let report = model.send_for_reply(command).await;
        Some(QueuedUnload { model, report })
    }
}
