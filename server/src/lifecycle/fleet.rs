//! The way into the lifecycle: what there is of it is put together here, started and ended, and calls are passed on to
//! whom they concern.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;

use super::{
    admission::Permit,
    command::{DriverCommand, LoadTicket, UnloadCommand, UnloadReport},
    context::{Context, FindError, Resources, UnknownModel},
    desired_state::DesiredState,
    history_sampler::HistorySampling,
    holders::{Holder, HoldersWriter},
    loader::{
        LoadError, LoadOptions, Loader, UnloadError, UnloadOptions, UnloadOutcome, WaitError,
    },
    memory_pressure,
    reconciler::Reconciler,
    registry::{DeclarationError, Registry, RegistryError},
    routing::{Admitted, ModelRequest, Router, RoutingError},
    session_id::SessionId,
    sessions::{self, HoldSession, Sessions, TooManySessions, UnknownSession},
    switch::{SwitchError, SwitchOptions, SwitchTicket, Switcher},
    tracked_model::TrackedModel,
};
use crate::{
    catalog::{
        Catalog, CatalogEntry, EntryChange, EntrySummary, NewEntry, ResponseToStore, StorageError,
    },
    model::{Etag, ModelId, StateKind, Status, Switch},
    prepared::PreparedCache,
    supervisor::Tasks,
};

/// All models. Cheap to share; ends with [`Fleet::shutdown`].
pub struct Fleet {
    context: Arc<Context>,
    sessions: Arc<Sessions>,
    loader: Arc<Loader>,
    switcher: Arc<Switcher>,
    registry: Registry,
    router: Router,
    reconciler: Reconciler,
}

impl Fleet {
    /// A fleet without models.
    pub fn new(resources: Resources) -> Arc<Self> {
        let supervisor = resources.supervisor.clone();
        let holders = HoldersWriter::default();
        let context = Context::new(resources, holders.holders().clone());
        let desired_state = DesiredState::new(context.clone(), holders);
        let sessions = Sessions::new(context.clone(), desired_state.clone());
        let loader = Loader::new(context.clone(), desired_state, sessions.clone());
        let switcher = Switcher::new(context.clone(), loader.clone());
        let probe = supervisor.liveness_probe("session-expiry", sessions::EXPIRY_INTERVAL);
        let expiry = sessions.clone().expire(probe);
        context.tasks.critical("session-expiry", expiry);
        let probe = supervisor.liveness_probe("memory-pressure", memory_pressure::CHECK_INTERVAL);
        let relieving = memory_pressure::relieve(context.clone(), probe);
        context.tasks.critical("memory-pressure", relieving);
        Arc::new(Self {
            registry: Registry::new(context.clone(), loader.clone()),
            router: Router::new(context.clone(), loader.clone(), switcher.clone()),
            reconciler: Reconciler::new(context.clone(), loader.clone(), switcher.clone()),
            context,
            sessions,
            loader,
            switcher,
        })
    }

    /// Begins no more loads.
    pub fn close(&self) {
        self.context.closing.cancel();
    }

    /// Whether the fleet is closed.
    pub fn is_closing(&self) -> bool {
        self.context.is_closing()
    }

    /// Drains and unloads all models, then waits for every task. What was asked for stays as it is. Bounded
    /// by the drain and kill time-outs.
    pub async fn shutdown(&self) {
        self.close();
        let drain = self.context.limits.shutdown_drain_timeout;
        let unload = async |model: Arc<TrackedModel>| {
            // A driver that is gone has left no worker behind; that of one that hangs was killed.
            let command = |reply| DriverCommand::Unload(UnloadCommand::new(drain, reply));
            model.send_and_wait(command).await;
        };
        join_all(self.all().into_iter().map(unload)).await;
        self.context.end_drivers.cancel();
        self.context.tasks.close();
        self.context.tasks.wait().await;
        self.context.downloads.close().await;
    }

    /// Runs a task of a request, whose caller hears when it is dropped. It ends at the latest when the worker that it
    /// uses is cut off; [`Fleet::shutdown`] waits for it.
    pub fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.context.tasks.request(task);
    }

    /// Tasks that [`Fleet::shutdown`] waits for.
    pub fn tasks(&self) -> Tasks {
        self.context.tasks.clone()
    }

    /// Restores the models' histories, then takes a sample of each model in every `interval`, with a task of `tasks`.
    pub fn sample_history(&self, interval: Duration, tasks: &Tasks) -> HistorySampling {
        HistorySampling::start(
            self.context.clone(),
            self.loader.desired_state().clone(),
            interval,
            tasks,
        )
    }
}

/// What there is, and where it stands.
impl Fleet {
    /// What is registered.
    pub fn catalog(&self) -> &Catalog {
        &self.context.catalog
    }

    /// The model that `name`, an id or an alias, stands for, if it was loaded or asked for since the start.
    pub fn tracked(&self, name: &ModelId) -> Option<Arc<TrackedModel>> {
        self.context.tracked(name)
    }

    /// All models that were loaded or asked for since the start, by id.
    pub fn all(&self) -> Vec<Arc<TrackedModel>> {
        self.context.all()
    }

    /// The entry that `name`, an id or an alias, stands for.
    ///
    /// # Errors
    ///
    /// When there is none, or the catalog cannot be read.
    pub async fn find(&self, name: &ModelId) -> Result<CatalogEntry, FindError> {
        self.context.find(name).await
    }

    /// What to say of `id`, which nothing is registered under.
    pub async fn unknown(&self, id: &ModelId) -> UnknownModel {
        self.context.unknown(id).await
    }

    /// The id that `name`, an id or an alias, stands for.
    pub fn resolve(&self, name: &ModelId) -> ModelId {
        self.catalog().resolve(name)
    }

    /// Where all models stand that have a worker or are about to get one, by id.
    pub fn active(&self) -> Vec<Status> {
        self.context.active()
    }

    /// Where the model `id` stands, with the requests that run and wait at this moment.
    pub fn status(&self, id: &ModelId) -> Status {
        if let Some(model) = self.context.model(id) {
            return model.live_status();
        }
        let status = self.context.event_log.status(id);
        status.unwrap_or_else(|| Status::unloaded(id.clone()))
    }

    /// Who holds the model `id`.
    pub fn holders(&self, id: &ModelId) -> Vec<Holder> {
        self.context.holders.of(id)
    }

    /// Version of the engine, as the last worker reported it.
    pub fn engine_version(&self) -> Option<Arc<String>> {
        self.context.engine.version()
    }

    /// What the engine's kernels for CPUs are built for, as the last worker for a CPU reported it.
    pub fn engine_kernels(&self) -> Option<Arc<String>> {
        self.context.engine.kernels()
    }

    /// Whether every required model has been READY or FAILED since the start.
    pub fn required_models_done(&self) -> bool {
        self.context.required_models_done()
    }

    /// Whether every required model that is known to be one is READY.
    pub fn required_are_ready(&self) -> bool {
        let ready = |model: &Arc<TrackedModel>| {
            !model.facts().entry.spec.required || model.status().state == StateKind::Ready
        };
        self.required_models_done() && self.all().iter().all(ready)
    }

    /// The cache of prepared weights, if any are kept.
    pub fn prepared(&self) -> Option<&Arc<PreparedCache>> {
        self.context.prepared.as_ref()
    }

    /// Makes models known that are registered, without a transition.
    pub fn track_all(&self, entries: impl IntoIterator<Item = EntrySummary>) {
        self.context.track_all(entries);
    }

    /// Whether the loaded model of `entry` has to be reloaded for all of its spec to hold.
    pub fn needs_reload(&self, entry: &CatalogEntry) -> bool {
        self.context.needs_reload(entry)
    }
}

/// Calls that are passed on: each method has the contract of the one that it names.
impl Fleet {
    /// [`Reconciler::reconcile`].
    pub async fn reconcile(&self) -> Result<(), StorageError> {
        self.reconciler.reconcile().await
    }

    /// [`Loader::load`].
    pub async fn load(
        &self,
        name: &ModelId,
        options: LoadOptions,
    ) -> Result<LoadTicket, LoadError> {
        self.loader.load(name, options).await
    }

    /// [`Loader::load_all`].
    pub async fn load_all(
        &self,
        options: LoadOptions,
    ) -> Result<Vec<(ModelId, Result<LoadTicket, LoadError>)>, LoadError> {
        self.loader.load_all(options).await
    }

    /// [`Loader::wait`].
    pub async fn wait(&self, ticket: LoadTicket) -> Result<LoadTicket, WaitError> {
        self.loader.wait(ticket).await
    }

    /// [`Loader::check_load`].
    pub async fn check_load(&self, name: &ModelId, options: &LoadOptions) -> Result<(), LoadError> {
        self.loader.check_load(name, options).await
    }

    /// [`Loader::check_all`].
    pub async fn check_all(
        &self,
        options: LoadOptions,
    ) -> Result<Vec<(ModelId, LoadError)>, LoadError> {
        self.loader.check_all(options).await
    }

    /// [`Loader::unload`].
    pub async fn unload(
        &self,
        name: &ModelId,
        options: UnloadOptions,
    ) -> Result<(ModelId, UnloadReport), UnloadError> {
        self.loader.unload(name, options).await
    }

    /// [`Loader::unload_all`].
    pub async fn unload_all(
        &self,
        options: UnloadOptions,
    ) -> Result<Vec<UnloadOutcome>, StorageError> {
        self.loader.unload_all(options).await
    }

    /// [`Router::admit`].
    pub async fn admit(&self, request: &ModelRequest) -> Result<Admitted, RoutingError> {
        self.router.admit(request).await
    }

    /// [`Router::admit_without_engine`].
    pub async fn admit_without_engine(&self, name: &ModelId) -> Result<Permit, RoutingError> {
        self.router.admit_without_engine(name).await
    }

    /// [`Switcher::switch`].
    pub async fn switch(
        &self,
        alias: &ModelId,
        to: &ModelId,
        options: SwitchOptions,
    ) -> Result<SwitchTicket, SwitchError> {
        self.switcher.switch(alias, to, options).await
    }

    /// [`Switcher::check_switch`].
    pub async fn check_switch(
        &self,
        alias: &ModelId,
        to: &ModelId,
        options: &SwitchOptions,
    ) -> Result<(), SwitchError> {
        self.switcher.check_switch(alias, to, options).await
    }

    /// [`Switcher::switches`].
    pub fn switches(&self, limit: usize) -> Vec<Switch> {
        self.switcher.switches(limit)
    }

    /// [`Sessions::open`].
    pub fn open_session(
        &self,
        ttl: Duration,
        display_name: &str,
    ) -> Result<HoldSession, TooManySessions> {
        self.sessions.open(ttl, display_name)
    }

    /// [`Sessions::keep_alive`].
    pub fn keep_session_alive(&self, id: &SessionId) -> Result<HoldSession, UnknownSession> {
        self.sessions.keep_alive(id)
    }

    /// [`Sessions::get`].
    pub fn session(&self, id: &SessionId) -> Result<HoldSession, UnknownSession> {
        self.sessions.get(id)
    }

    /// [`Sessions::close`].
    pub fn close_session(&self, id: &SessionId) -> Result<Vec<ModelId>, UnknownSession> {
        self.sessions.close(id)
    }

    /// [`Registry::declare`].
    pub async fn declare(&self, entries: Vec<NewEntry>) -> Result<(), DeclarationError> {
        self.registry.declare(entries).await
    }

    /// [`Registry::create`].
    pub async fn create(
        &self,
        new: NewEntry,
        request: Option<ResponseToStore>,
    ) -> Result<CatalogEntry, RegistryError> {
        self.registry.create(new, request).await
    }

    /// [`Registry::check_create`].
    pub async fn check_create(&self, new: NewEntry) -> Result<CatalogEntry, RegistryError> {
        self.registry.check_create(new).await
    }

    /// [`Registry::update`].
    pub async fn update(
        &self,
        id: &ModelId,
        change: EntryChange,
        request: Option<ResponseToStore>,
    ) -> Result<(CatalogEntry, bool), RegistryError> {
        self.registry.update(id, change, request).await
    }

    /// [`Registry::check_update`].
    pub async fn check_update(
        &self,
        id: &ModelId,
        change: EntryChange,
    ) -> Result<(CatalogEntry, bool), RegistryError> {
        self.registry.check_update(id, change).await
    }

    /// [`Registry::delete`].
    pub async fn delete(
        &self,
        id: &ModelId,
        etag: Option<Etag>,
        force: bool,
        request: impl FnOnce(Option<UnloadReport>) -> Option<ResponseToStore>,
    ) -> Result<Option<UnloadReport>, RegistryError> {
        self.registry.delete(id, etag, force, request).await
    }
}
