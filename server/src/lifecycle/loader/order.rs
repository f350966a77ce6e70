//! Orders to the drivers of models, and what these answer.

use std::sync::Arc;

use tokio::sync::{MutexGuard, oneshot};
use tracing::Span;

use super::{
    super::{
        command::{DriverCommand, LoadCommand, LoadOrder, LoadTicket},
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
struct OrderedLoad {
    model: Arc<TrackedModel>,
    ticket: DriverReply<LoadTicket>,
}

impl Loader {
    /// Gives the order to the driver of the model of `entry`, and waits until it has taken it.
    async fn order(&self, entry: CatalogEntry, order: LoadOrder) -> Result<LoadTicket, LoadError> {
        let ordered = self.give_order(entry, order).await?;
        self.ticket(ordered).await
    }

    /// As [`Self::order`], under the desired-state lock, which is given up as soon as the order is in the driver's queue: it
    /// comes to those of others after this one.
    pub(in crate::lifecycle) async fn order_and_unlock(
        &self,
        guard: MutexGuard<'_, ()>,
        entry: CatalogEntry,
        order: LoadOrder,
    ) -> Result<LoadTicket, LoadError> {
        let ordered = self.give_order(entry, order).await?;
        drop(guard);
        self.ticket(ordered).await
    }

    /// Gives the order to the driver of the model of `entry`, behind all that it was sent before.
    async fn give_order(
        &self,
        entry: CatalogEntry,
        order: LoadOrder,
    ) -> Result<OrderedLoad, LoadError> {
        let id = entry.id.clone();
        let (reply, ticket) = oneshot::channel();
        let model = track(&self.context, &entry).ok_or(LoadError::ShuttingDown)?;
        let known = self.context.catalog.get(&id).await?;
        if known.is_none_or(|known| known.uid != entry.uid) {
            // Deleted since the entry was read, perhaps before there was a driver to be retired.
            self.context.untrack(&entry).await;
            return Err(self.context.unknown(&id).await.into());
        }
        if self.context.deletions.under_way(&id).is_some() {
            // It sees to the driver, too.
            return Err(self.context.unknown(&id).await.into());
        }
        let command = LoadCommand {
            entry,
            order,
            span: Span::current(),
            reply,
        };
        model.send(DriverCommand::Load(Box::new(command))).await;
        let ticket = model.reply(ticket);
        Ok(OrderedLoad { model, ticket })
    }

    /// What the driver answers to an order.
    async fn ticket(&self, ordered: OrderedLoad) -> Result<LoadTicket, LoadError> {
        let OrderedLoad { model, ticket } = ordered;
        match ticket.wait().await {
            Some(ticket) => Ok(ticket),
            None if self.context.is_closing() => Err(LoadError::ShuttingDown),
            None if self.context.is_driven(&model) => Err(LoadError::Lost),
            None => Err(self.context.unknown(model.id()).await.into()),
        }
    }

    /// As [`Self::order`], and waits until the load has ended.
    pub(in crate::lifecycle) async fn order_and_wait(
        &self,
        entry: CatalogEntry,
        order: LoadOrder,
    ) -> Result<(), Failure> {
        self.context.deletions.ended(&entry.id).await;
        let ticket = self.order(entry, order).await.map_err(|error| {
            let reason = match &error {
                LoadError::ShuttingDown => Reason::ShuttingDown,
                LoadError::Storage(StorageError::Full) => Reason::StorageFull,
                LoadError::Lost => Reason::Internal,
                _ => Reason::ModelUnloaded,
            };
            Failure::new(reason, error.to_string())
        })?;
        let Some(outcome) = ticket.outcome else {
            return Ok(());
        };
        let lost = || match self.context.is_closing() {
            true => Failure::new(Reason::ShuttingDown, "the server is shutting down"),
            false => Failure::of_a_lost_task(),
        };
        outcome.wait().await.ok_or_else(lost)?.map(|_| ())
    }
}
