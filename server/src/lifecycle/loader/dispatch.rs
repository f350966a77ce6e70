//! Instructions to the drivers of models, and what these reply.

use super::{
    super::{
        command::{LoadInstruction, LoadTicket},
        desired_state::{NotQueued, QueuedLoad},
    },
    LoadError, Loader,
};
use crate::{
    catalog::{CatalogEntry, StorageError},
    model::{Failure, Reason},
};

impl Loader {
    /// What the driver replies to an instruction.
    ///
    /// # Errors
    ///
    /// Why it has not got it, or does not reply.
    pub(in crate::lifecycle) async fn ticket(
        &self,
        queued: Result<QueuedLoad, NotQueued>,
    ) -> Result<LoadTicket, LoadError> {
        let QueuedLoad { model, ticket } = match queued {
            Ok(queued) => queued,
            Err(NotQueued::Register(error)) => return Err(self.not_registered(error).await),
            Err(NotQueued::ShuttingDown) => return Err(LoadError::ShuttingDown),
        };
        match ticket.wait().await {
            Some(ticket) => Ok(ticket),
            None if self.context.is_closing() => Err(LoadError::ShuttingDown),
            None if self.context.is_driven(&model) => Err(LoadError::ModelTaskFailed),
            None => Err(self.context.unknown(model.id()).await.into()),
        }
    }

    /// Loads the model of `entry`, whether it is to stay loaded or not, and waits until the load has ended.
    ///
    /// # Errors
    ///
    /// When it does not become READY.
    pub(in crate::lifecycle) async fn load_and_wait(
        &self,
        entry: &CatalogEntry,
        instruction: LoadInstruction,
    ) -> Result<(), Failure> {
        let locked = self.desired_state.lock(&entry.id).await;
        let queued = locked.load_undesired(entry.uid, instruction).await;
        let ticket = self.ticket(queued).await.map_err(|error| {
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
