//! Loads: what is asked for is committed, remembered, and in the queue of the model's driver before anybody else has the model.

use std::sync::Arc;

use tracing::Span;
use uuid::Uuid;

use super::{DesiredState, LockedModel};
use crate::{
    catalog::{
        CatalogEntry, LoadRequest, OnConflict, RegisterError, RegisterOutcome, StorageError,
    },
    lifecycle::{
        command::{DriverCommand, LoadCommand, LoadInstruction, LoadTicket},
        driver::track,
        driver_reply::DriverReply,
        tracked_model::TrackedModel,
    },
    model::{ModelId, Spec},
};

/// A load that is in the queue of a driver.
#[derive(Debug)]
#[must_use]
pub(in crate::lifecycle) struct QueuedLoad {
    pub(in crate::lifecycle) model: Arc<TrackedModel>,
    pub(in crate::lifecycle) ticket: DriverReply<LoadTicket>,
}

/// A load that no driver has heard of.
#[derive(Debug, thiserror::Error)]
pub(in crate::lifecycle) enum NotQueued {
    /// The model was not registered, or is not any more.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl DesiredState {
    /// The model `id`, with a driver that nobody instructs to do anything. `None` where it is not registered, or not for long.
    ///
    /// # Errors
    ///
    /// When the catalog cannot be read.
    pub(in crate::lifecycle) async fn track(
        &self,
        id: &ModelId,
    ) -> Result<Option<Arc<TrackedModel>>, StorageError> {
        let locked = self.lock_at_once(id).await;
        let entry = locked.entry().await?;
        Ok(entry.and_then(|entry| locked.tracked(&entry).ok()))
    }
}

impl LockedModel<'_> {
    /// Registers `spec`, if there is one, has the model loaded from now on if it is `desired`, and gives the instruction to its
    /// driver: all of it, or nothing where the registration is refused.
    ///
    /// # Errors
    ///
    /// See [`NotQueued`].
    pub(in crate::lifecycle) async fn load(
        mut self,
        spec: Option<(Spec, OnConflict)>,
        desired: bool,
        instruction: LoadInstruction,
    ) -> Result<QueuedLoad, NotQueued> {
        let request = LoadRequest {
            name: self.id.clone(),
            spec,
            desired,
        };
        let requested = self.context().catalog.request_load(request).await?;
        let RegisterOutcome { before, after } = requested;
        if desired {
            self.desired_state.remember(&self.id, true);
        }
        self.announce(before.as_ref(), &after).await;
        self.enqueue(after, instruction).await
    }

    /// Gives the instruction to the driver of the model, which is registered as `entry` and to be loaded at the start of the server.
    /// It counts as desired from now on, also if only its spec says so; each start finds that there again.
    ///
    /// # Errors
    ///
    /// See [`NotQueued`].
    pub(in crate::lifecycle) async fn load_at_start(
        self,
        entry: CatalogEntry,
        instruction: LoadInstruction,
    ) -> Result<QueuedLoad, NotQueued> {
        let entry = CatalogEntry {
            desired: true,
            ..entry
        };
        self.desired_state.remember(&self.id, true);
        self.enqueue(entry, instruction).await
    }

    /// Gives the instruction to the driver of the model, if it is still the one that was registered as `uid`. What is wanted of it
    /// stays as it is.
    ///
    /// # Errors
    ///
    /// See [`NotQueued`].
    pub(in crate::lifecycle) async fn load_undesired(
        self,
        uid: Uuid,
        instruction: LoadInstruction,
    ) -> Result<QueuedLoad, NotQueued> {
        if self.context().is_closing() {
            return Err(NotQueued::ShuttingDown);
        }
        let entry = self.entry().await.map_err(RegisterError::from)?;
        let entry = entry.filter(|entry| entry.uid == uid);
        let entry = entry.ok_or_else(|| RegisterError::Unknown(self.id.clone()))?;
        self.enqueue(entry, instruction).await
    }

    /// Gives the instruction to the driver of the model, which is registered as `entry`, behind all that it was sent before.
    async fn enqueue(
        self,
        entry: CatalogEntry,
        instruction: LoadInstruction,
    ) -> Result<QueuedLoad, NotQueued> {
        let model = self.tracked(&entry)?;
        model.set_entry(&entry);
        let command = |reply| {
            DriverCommand::Load(Box::new(LoadCommand {
                spec: entry.spec,
                instruction,
                span: Span::current(),
                reply,
            }))
        };
        let ticket = model.send_for_reply(command).await;
        Ok(QueuedLoad { model, ticket })
    }

    /// The model, which is registered as `entry`, with a driver. None is started that a deletion would not see.
    fn tracked(&self, entry: &CatalogEntry) -> Result<Arc<TrackedModel>, NotQueued> {
        if self.desired_state.deletions.under_way(&self.id).is_some() {
            return Err(RegisterError::Unknown(self.id.clone()).into());
        }
        track(self.context(), entry).ok_or(NotQueued::ShuttingDown)
    }
}
