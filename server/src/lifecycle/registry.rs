//! Changes of the catalog that the lives of models have to hear of.
//!
//! What was changed is committed before anybody hears of it, and watchers hear of changes in the order of
//! their commits as far as they come through here.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;

use super::{
    command::UnloadReport,
    context::{Context, UnknownModel},
    desired_state::DesiredState,
    loader::{Loader, UnloadError, UnloadOptions},
    source::SourceError,
};
use crate::{
    catalog::{
        CatalogEntry, DeclareError, DeleteError, EntryChange, NewEntry, RegisterError,
        ResponseToStore, StorageError, UpdateError,
    },
    model::{Etag, Failure, ModelId, Status},
};

/// A change that was not made.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No such model.
    #[error(transparent)]
    Unknown(#[from] UnknownModel),
    /// The source may not be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The model was not registered.
    #[error(transparent)]
    Create(#[from] RegisterError),
    /// The entry was not changed.
    #[error("{0}: {1}")]
    Update(ModelId, #[source] UpdateError),
    /// The entry was not removed.
    #[error("{0}: {1}")]
    Delete(ModelId, #[source] DeleteError),
    /// The model is loaded.
    #[error("the model {0} is loaded")]
    Loaded(ModelId),
    /// The catalog cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The model's driver panicked before it answered, or no longer turns.
    #[error("{}", Failure::of_panicked_task().message)]
    ModelTaskFailed,
}

/// Models that the configuration file declares and that cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum DeclarationError {
    /// The source may not be used.
    #[error("models: {id}: source: {error}")]
    Source {
        /// The model.
        id: ModelId,
        /// Why.
        error: SourceError,
    },
    /// The catalog refuses.
    #[error(transparent)]
    Catalog(#[from] DeclareError),
}

/// How often a model is unloaded for its deletion: loads that were dispatched before may still come to its driver, and a worker
/// may not go.
const MAX_UNLOADS: usize = 3;

/// Changes what is registered.
pub(super) struct Registry {
    context: Arc<Context>,
    loader: Arc<Loader>,
}

impl Registry {
    pub(super) fn new(context: Arc<Context>, loader: Arc<Loader>) -> Self {
        Self { context, loader }
    }

    /// Registers a model, and remembers the response to `request` with it.
    ///
    /// # Errors
    ///
    /// See [`RegistryError`].
    pub(super) async fn create(
        &self,
        new: NewEntry,
        request: Option<ResponseToStore>,
    ) -> Result<CatalogEntry, RegistryError> {
        self.check_open()?;
        self.loader.check_sources(&new.spec).await?;
        let desired_state = self.desired_state();
        let mut locked = desired_state.lock_with_names(&new.id, &new.aliases).await;
        let entry = self.context.catalog.create(new, request).await?;
        // No transition shows it, as one does for a model that is registered by its load.
        let event_log = &self.context.event_log;
        event_log.track(Status::unloaded(entry.id.clone()));
        event_log.spec_changed(&entry.id, entry.version);
        locked.announce(None, &entry).await;
        Ok(entry)
    }

    /// What [`Registry::create`] would give, without doing it.
    ///
    /// # Errors
    ///
    /// See [`RegistryError`].
    pub(super) async fn check_create(&self, new: NewEntry) -> Result<CatalogEntry, RegistryError> {
        self.check_open()?;
        self.loader.check_sources(&new.spec).await?;
        Ok(self.context.catalog.check_create(new).await?)
    }

    /// Changes the entry of `id`, and remembers the response to `request` with it. Says also whether the model
    /// has to be reloaded for all of it to hold.
    ///
    /// # Errors
    ///
    /// See [`RegistryError`].
    pub(super) async fn update(
        &self,
        id: &ModelId,
        change: EntryChange,
        request: Option<ResponseToStore>,
    ) -> Result<(CatalogEntry, bool), RegistryError> {
        self.check_change(&change).await?;
        // With the model locked: no load that was checked meets another entry than it saw.
        let aliases = change.aliases.as_deref().unwrap_or_default();
        let mut locked = self.desired_state().lock_to_update(id, aliases).await;
        let catalog = &self.context.catalog;
        let updated = catalog.update(locked.id(), change, request).await;
        let updated = updated.map_err(|error| RegistryError::Update(id.clone(), error))?;
        let reload = self.context.needs_reload(&updated.after);
        locked.announce(Some(&updated.before), &updated.after).await;
        Ok((updated.after, reload))
    }

    /// What [`Registry::update`] would give, without doing it.
    ///
    /// # Errors
    ///
    /// See [`RegistryError`].
    pub(super) async fn check_update(
        &self,
        id: &ModelId,
        change: EntryChange,
    ) -> Result<(CatalogEntry, bool), RegistryError> {
        self.check_change(&change).await?;
        let updated = self.context.catalog.check_update(id, change).await;
        let updated = updated.map_err(|error| RegistryError::Update(id.clone(), error))?;
        let reload = self.context.needs_reload(&updated.after);
        Ok((updated.after, reload))
    }

    /// Removes the entry of `id`. A loaded model is unloaded first, if `force` is set. The answer that
    /// `request` makes of the unload is remembered with the removal. Gives what the unload did, if there was
    /// one.
    ///
    /// # Errors
    ///
    /// See [`RegistryError`].
    pub(super) async fn delete(
        &self,
        id: &ModelId,
        etag: Option<Etag>,
        force: bool,
        request: impl FnOnce(Option<UnloadReport>) -> Option<ResponseToStore>,
    ) -> Result<Option<UnloadReport>, RegistryError> {
        let refused = |error| RegistryError::Delete(id.clone(), error);
        self.check_open()?;
        let locked = self.desired_state().lock(id).await;
        // Nothing is ended or unloaded for a call that is refused; from here on nobody changes the entry.
        let checked = self.context.catalog.check_delete(id, etag, force).await;
        checked.map_err(refused)?;
        let _deletion = locked.begin_deletion();
        let report = self.end_for_deletion(id, force).await?;
        let _locked = self.desired_state().lock_at_once(id).await;
        let deleted = self
            .context
            .catalog
            .delete(id, None, force, request(report))
            .await;
        deleted.map_err(refused)?;
        // Nobody has tracked it once more, or registered another under its id.
        self.context.event_log.remove(id);
        Ok(report)
    }

    /// Ends the driver of the model `id`, and with `force` what it has loaded. Gives what the unload did, if there was one.
    async fn end_for_deletion(
        &self,
        id: &ModelId,
        force: bool,
    ) -> Result<Option<UnloadReport>, RegistryError> {
        let mut report = None;
        let mut unloads = 0;
        while !self
            .context
            .end_driver(id)
            .await
            .ok_or(RegistryError::ModelTaskFailed)?
        {
            if !force || unloads == MAX_UNLOADS {
                return Err(RegistryError::Loaded(id.clone()));
            }
            let unloaded = self.unload_for_deletion(id).await?;
            if unloaded.was_loaded {
                report = Some(unloaded);
            }
            unloads += 1;
        }
        Ok(report)
    }

    /// Makes the entries of the configuration file exactly these.
    ///
    /// # Errors
    ///
    /// See [`DeclarationError`].
    pub(super) async fn declare(&self, entries: Vec<NewEntry>) -> Result<(), DeclarationError> {
        // All at once: those that hang take the time of one.
        let checks = entries
            .iter()
            .map(|entry| self.loader.check_sources(&entry.spec));
        for (entry, checked) in entries.iter().zip(join_all(checks).await) {
            checked.map_err(|error| DeclarationError::Source {
                id: entry.id.clone(),
                error,
            })?;
        }
        Ok(self.context.catalog.declare(entries).await?)
    }

    async fn unload_for_deletion(&self, id: &ModelId) -> Result<UnloadReport, RegistryError> {
        let options = UnloadOptions {
            drain_timeout: Duration::ZERO,
            force: true,
            session: None,
        };
        match self.loader.unload(id, options).await {
            Ok((_, report)) => Ok(report),
            Err(UnloadError::Unknown(unknown)) => Err(unknown.into()),
            Err(UnloadError::Storage(error)) => Err(error.into()),
            Err(UnloadError::ModelTaskFailed) => Err(RegistryError::ModelTaskFailed),
            // Not with force.
            Err(UnloadError::Required | UnloadError::Held(_)) => {
                Err(RegistryError::Loaded(id.clone()))
            }
        }
    }

    async fn check_change(&self, change: &EntryChange) -> Result<(), RegistryError> {
        self.check_open()?;
        if let Some(spec) = &change.spec {
            self.loader.check_sources(spec).await?;
        }
        Ok(())
    }

    fn desired_state(&self) -> &DesiredState {
        self.loader.desired_state()
    }

    fn check_open(&self) -> Result<(), RegistryError> {
        if self.context.is_closing() {
            Err(RegistryError::ShuttingDown)
        } else {
            Ok(())
        }
    }
}
