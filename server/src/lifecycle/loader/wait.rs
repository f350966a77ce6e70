//! Waiting for the end of a load.

use super::{super::command::LoadTicket, Loader};
use crate::{
    catalog::ModelOrigin,
    model::{Failure, ModelId, Reason},
};

/// A load that was waited for, and that did not make its model READY.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// It failed, and the model stays registered.
    #[error("{failure}")]
    Failed {
        /// The model.
        model: ModelId,
        /// Whether it stays to be loaded.
        desired: bool,
        /// Whether the configuration file declares it.
        declared: bool,
        /// Why.
        failure: Failure,
    },
    /// It was cancelled, or the model has gone.
    #[error("{0}")]
    Ended(Failure),
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl Loader {
    /// Waits until the load of `ticket` has ended, and gives the ticket with where the model stands then. A caller that goes
    /// away leaves the load running.
    ///
    /// # Errors
    ///
    /// When the model did not become READY.
    pub(in crate::lifecycle) async fn wait(
        &self,
        mut ticket: LoadTicket,
    ) -> Result<LoadTicket, WaitError> {
        let id = &ticket.status.model_id;
        if let Some(outcome) = ticket.outcome.take() {
            let no_reply = || Err(Failure::of_panicked_task());
            let ended = outcome.wait().await.unwrap_or_else(no_reply);
            ticket.status = ended.map_err(|failure| match self.context.is_closing() {
                true => WaitError::ShuttingDown,
                false => self.wait_error(id, failure),
            })?;
        } else if let Some(failure) = &ticket.status.failure {
            return Err(self.wait_error(id, failure.clone()));
        }
        Ok(ticket)
    }

    /// The load of the model `id` has ended with `failure`: what it has left behind.
    fn wait_error(&self, id: &ModelId, failure: Failure) -> WaitError {
        let model = self.context.tracked(id);
        match model.filter(|_| failure.reason != Reason::LoadCancelled) {
            Some(model) => {
                let facts = model.facts();
                WaitError::Failed {
                    model: id.clone(),
                    desired: facts.desired,
                    declared: facts.entry.origin == ModelOrigin::File,
                    failure,
                }
            }
            None => WaitError::Ended(failure),
        }
    }
}
