//! Instructions to the drivers of models, and what these reply.

use std::sync::Arc;

use tokio::sync::{MutexGuard, oneshot};
use tracing::Span;

use super::{
    super::{
        command::{DriverCommand, LoadCommand, LoadInstruction, LoadTicket},
        driver::track,
        driver_reply::DriverReply,
        tracked_model::TrackedModel,
    },
    LoadError, Loader,
};
use crate::{
    catalog::{CatalogEntry, StorageError},
    model::{Failure, Reason},
};

/// A load that a driver was told to begin.
struct QueuedLoad {
    model: Arc<TrackedModel>,
    ticket: DriverReply<LoadTicket>,
}

impl Loader {
    /// Gives the instruction to the driver of the model of `entry`, and waits until it has taken it.
    async fn dispatch(
        &self,
        entry: CatalogEntry,
        instruction: LoadInstruction,
    ) -> Result<LoadTicket, LoadError> {
        let queued = self.enqueue(entry, instruction).await?;
        self.ticket(queued).await
    }

    /// As [`Self::dispatch`], under the desired-state lock, which is given up as soon as the instruction is in the driver's queue: it
    /// comes to those of others after this one.
    pub(in crate::lifecycle) async fn dispatch_and_unlock(
        &self,
        guard: MutexGuard<'_, ()>,
        entry: CatalogEntry,
        instruction: LoadInstruction,
    ) -> Result<LoadTicket, LoadError> {
        let queued = self.enqueue(entry, instruction).await?;
        drop(guard);
        self.ticket(queued).await
    }

    /// Gives the instruction to the driver of the model of `entry`, behind all that it was sent before.
    async fn enqueue(
        &self,
        entry: CatalogEntry,
        instruction: LoadInstruction,
    ) -> Result<QueuedLoad, LoadError> {
        let id = entry.id.clone();
        let (reply, ticket) = oneshot::channel();
        let model = track(&self.context, &entry).ok_or(LoadError::ShuttingDown)?;
        let known = self.context.catalog.get(&id).await?;
        if known.is_none_or(|known| known.uid != entry.uid) {
            // Deleted since the entry was read, perhaps before there was a driver to be ended.
            self.context.untrack(&entry).await;
            return Err(self.context.unknown(&id).await.into());
        }
        if self.context.deletions.under_way(&id).is_some() {
            // It sees to the driver, too.
            return Err(self.context.unknown(&id).await.into());
        }
        let command = LoadCommand {
            entry,
            instruction,
            span: Span::current(),
            reply,
        };
        model.send(DriverCommand::Load(Box::new(command))).await;
        let ticket = model.reply(ticket);
        Ok(QueuedLoad { model, ticket })
    }

    /// What the driver replies to an instruction.
    async fn ticket(&self, queued: QueuedLoad) -> Result<LoadTicket, LoadError> {
        let QueuedLoad { model, ticket } = queued;
        match ticket.wait().await {
            Some(ticket) => Ok(ticket),
            None if self.context.is_closing() => Err(LoadError::ShuttingDown),
            None if self.context.is_driven(&model) => Err(LoadError::ModelTaskFailed),
            None => Err(self.context.unknown(model.id()).await.into()),
        }
    }

    /// As [`Self::dispatch`], and waits until the load has ended.
    pub(in crate::lifecycle) async fn dispatch_and_wait(
        &self,
        entry: CatalogEntry,
        instruction: LoadInstruction,
    ) -> Result<(), Failure> {
        self.context.deletions.ended(&entry.id).await;
        let ticket = self.dispatch(entry, instruction).await.map_err(|error| {
            let reason = match &error {
                LoadError::ShuttingDown => Reason::ShuttingDown,
                LoadError::Storage(StorageError::Full) => Reason::StorageFull,
                LoadError::ModelTaskFailed => Reason::Internal,
                _ => Reason::ModelUnloaded,
            };
            Failure::new(reason, error.to_string())
        })?;
        let Some(outcome) = ticket.outcome else {
            return Ok(());
        };
        let no_reply = || match self.context.is_closing() {
            true => Failure::new(Reason::ShuttingDown, "the server is shutting down"),
            false => Failure::of_panicked_task(),
        };
        outcome.wait().await.ok_or_else(no_reply)?.map(|_| ())
    }
}
