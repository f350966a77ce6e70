//! Unloads, and what is no longer asked for.

use std::time::Duration;

use super::{
    super::{
        command::UnloadReport,
        context::{FindError, UnknownModel},
        desired_state::QueuedUnload,
        holders::Holder,
        session_id::SessionName,
    },
    Loader,
};
use crate::{
    catalog::StorageError,
    model::{Failure, ModelId},
};

/// How to unload.
#[derive(Clone, Debug)]
pub struct UnloadOptions {
    /// For requests that run; with `force` they get none.
    pub drain_timeout: Duration,
    /// Also when the model is required or held.
    pub force: bool,
    /// The session that asks: its own hold does not count.
    pub session: Option<SessionName>,
}

/// An unload that was not begun.
#[derive(Debug, thiserror::Error)]
pub enum UnloadError {
    /// No such model.
    #[error(transparent)]
    Unknown(#[from] UnknownModel),
    /// The model is required.
    #[error("the model is required; give force to unload it all the same")]
    Required,
    /// Others hold the model.
    #[error("others hold the model; give force to unload it all the same")]
    Held(Vec<Holder>),
    /// The catalog cannot be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The model's driver panicked before it answered, or no longer turns.
    #[error("{}", Failure::of_panicked_task().message)]
    ModelTaskFailed,
}

impl Loader {
    /// Unloads the model that `name` stands for and answers when its worker is gone.
    ///
    /// # Errors
    ///
    /// See [`UnloadError`].
    pub(in crate::lifecycle) async fn unload(
        &self,
        name: &ModelId,
        options: UnloadOptions,
    ) -> Result<(ModelId, UnloadReport), UnloadError> {
        let locked = self.desired_state.lock_at_once(name).await;
        let id = locked.id().clone();
        let entry = self.context.find(&id).await.map_err(UnloadError::from)?;
        if entry.spec.required && !options.force {
            return Err(UnloadError::Required);
        }
        let stays = |holder: &Holder| match (holder, &options.session) {
            _ if options.force => false,
            (Holder::Session(held), Some(session)) => held != session,
            _ => true,
        };
        let mut others = self.context.holders.of(&id);
        others.retain(stays);
        if !others.is_empty() {
            return Err(UnloadError::Held(others));
        }
        let Some(queued) = locked.unload(options.drain()).await? else {
            return Ok((id, UnloadReport::nothing()));
        };
        let QueuedUnload { model, report } = queued;
        match report.wait().await {
            Some(report) => Ok((id, report)),
            None if self.context.is_driven(&model) => Err(UnloadError::ModelTaskFailed),
            // A driver that is gone has left no worker behind.
            None => Ok((id, UnloadReport::nothing())),
        }
    }

    /// Models that are to be loaded but have no worker and get none by themselves, as they are suspended or
    /// have FAILED, are no longer to be loaded; without `force` all but the required ones.
    ///
    /// # Errors
    ///
    /// When the catalog cannot be read or written.
    pub(in crate::lifecycle) async fn clear_desired_of_inactive(
        &self,
        force: bool,
    ) -> Result<(), StorageError> {
        for entry in self.context.catalog.to_reconcile().await? {
            let locked = self.desired_state.lock_at_once(&entry.id).await;
            locked.clear_if_inactive(force).await?;
        }
        Ok(())
    }
}

impl UnloadOptions {
    /// How long requests that run are waited for.
    fn drain(&self) -> Duration {
        match self.force {
            true => Duration::ZERO,
            false => self.drain_timeout,
        }
    }
}

impl From<FindError> for UnloadError {
    fn from(error: FindError) -> Self {
        match error {
            FindError::Unknown(unknown) => Self::Unknown(unknown),
            FindError::Storage(error) => Self::Storage(error),
        }
    }
}
