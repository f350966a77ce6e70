//! All models: what they share, where they are found, and how they end together.

mod places;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwapOption;
use futures::future::join_all;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    Limits,
    command::{Command, UnloadCommand},
    devices::Devices,
    driver::Driver,
    holders::{Holder, Holders},
    load_slots::LoadSlots,
    memory::Memory,
    model::Model,
    pressure,
    sessions::{self, Sessions},
    source::ModelRoots,
    switch::Switches,
};
use crate::{
    catalog::{Catalog, CatalogEntry, ListQuery, StorageError},
    download::Downloads,
    model::{ModelId, Stage, Status},
    prepared::PreparedCache,
    status::Hub,
    supervisor::{Supervisor, Tasks},
    telemetry::model::ModelMetrics,
    worker::{CommonConfig, Program, Spawner},
};

/// All models. Cheap to share; ends with [`Fleet::shutdown`].
pub struct Fleet {
    pub(super) context: Arc<Context>,
    pub(super) catalog: Catalog,
}

/// What a fleet is made of.
pub struct Resources {
    /// What is registered.
    pub catalog: Catalog,
    /// Where transitions are published.
    pub hub: Arc<Hub>,
    /// Where models may be loaded from.
    pub roots: ModelRoots,
    /// Brings models from the hub.
    pub downloads: Arc<Downloads>,
    /// The worker program for models on the CPU.
    pub program: Program,
    /// Starts it.
    pub spawner: Spawner,
    /// Directory for sockets: private, and so short that socket paths fit.
    pub runtime_dir: PathBuf,
    /// What is kept of prepared weights.
    pub prepared: Option<Arc<PreparedCache>>,
    /// What all workers get.
    pub worker_config: CommonConfig,
    /// What there is of memory.
    pub memory: Memory,
    /// The GPUs that models may be on.
    pub devices: Arc<Devices>,
    /// Limits and deadlines.
    pub limits: Limits,
    /// Watches the tasks.
    pub supervisor: Supervisor,
    /// Where loads, unloads and requests are recorded.
    pub metrics: ModelMetrics,
}

/// What the drivers of a fleet share.
pub(super) struct Context {
    pub(super) catalog: Catalog,
    pub(super) hub: Arc<Hub>,
    pub(super) roots: ModelRoots,
    pub(super) downloads: Arc<Downloads>,
    pub(super) program: Program,
    pub(super) spawner: Spawner,
    pub(super) runtime_dir: PathBuf,
    pub(super) limits: Limits,
    pub(super) slots: LoadSlots,
    pub(super) tasks: Tasks,
    pub(super) engine_version: ArcSwapOption<String>,
    pub(super) metrics: ModelMetrics,
    pub(super) memory: Memory,
    pub(super) devices: Arc<Devices>,
    pub(super) holders: Holders,
    pub(super) sessions: Sessions,
    pub(super) switches: Switches,
    /// Inspections ahead of reloads that run at the same time.
    pub(super) inspections: Semaphore,
    /// Held from the commit of what was asked for until its driver has heard of it.
    pub(super) desired_state_lock: tokio::sync::Mutex<()>,
    /// No more loads are begun.
    pub(super) closing: CancellationToken,
    pub(super) prepared: Option<Arc<PreparedCache>>,
    /// Ends the drivers.
    pub(super) end_drivers: CancellationToken,
    models: Mutex<BTreeMap<ModelId, Arc<Model>>>,
    /// Required models that have been neither READY nor FAILED since the start.
    unsettled: Mutex<BTreeSet<ModelId>>,
    pub(super) worker_config: Arc<CommonConfig>,
}

/// An id that nothing is registered under.
#[derive(Debug, thiserror::Error)]
#[error("no model {id} is registered; give LoadModel a spec to register it")]
pub struct UnknownModel {
    /// The id.
    pub id: ModelId,
    /// Ids that are known, at most ten.
    pub known: Vec<ModelId>,
}

/// A name that stands for no model, or whose model cannot be looked up.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// No such model.
    #[error(transparent)]
    Unknown(#[from] UnknownModel),
    /// The catalog cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Commands that wait for a driver.
const COMMAND_QUEUE: usize = 64;

/// Inspections ahead of reloads at the same time.
const MAX_INSPECTIONS: usize = 2;

/// Ids that an error tells.
const KNOWN_IDS: usize = 10;

impl Fleet {
    /// A fleet without models.
    pub fn new(resources: Resources) -> Arc<Self> {
        let context = Arc::new(Context {
            catalog: resources.catalog.clone(),
            hub: resources.hub,
            roots: resources.roots,
            downloads: resources.downloads,
            program: resources.program,
            spawner: resources.spawner,
            runtime_dir: resources.runtime_dir,
            slots: LoadSlots::new(
                resources.limits.concurrent_loads,
                resources.limits.concurrent_device_loads,
            ),
            limits: resources.limits,
            tasks: resources.supervisor.tasks(),
            engine_version: ArcSwapOption::empty(),
            metrics: resources.metrics,
            memory: resources.memory,
            devices: resources.devices,
            holders: Holders::default(),
            sessions: Sessions::default(),
            switches: Switches::default(),
            inspections: Semaphore::new(MAX_INSPECTIONS),
            desired_state_lock: tokio::sync::Mutex::default(),
            closing: CancellationToken::new(),
            prepared: resources.prepared,
            end_drivers: CancellationToken::new(),
            models: Mutex::default(),
            unsettled: Mutex::default(),
            worker_config: Arc::new(resources.worker_config),
        });
        let supervisor = &resources.supervisor;
        let probe = supervisor.liveness_probe("session-expiry", sessions::EXPIRY_INTERVAL);
        let expiry = sessions::expire(context.clone(), probe);
        context.tasks.critical("session-expiry", expiry);
        let probe = supervisor.liveness_probe("memory-pressure", pressure::CHECK_INTERVAL);
        let pressure = pressure::relieve(context.clone(), probe);
        context.tasks.critical("memory-pressure", pressure);
        Arc::new(Self {
            context,
            catalog: resources.catalog,
        })
    }

    /// The model that `name`, an id or an alias, stands for, if it was loaded or asked for since the start.
    pub fn tracked(&self, name: &ModelId) -> Option<Arc<Model>> {
        self.context.model(&self.catalog.resolve(name))
    }

    /// All models that were loaded or asked for since the start, by id.
    pub fn all(&self) -> Vec<Arc<Model>> {
        self.context.all()
    }

    /// The entry that `name`, an id or an alias, stands for.
    ///
    /// # Errors
    ///
    /// When there is none, or the catalog cannot be read.
    pub async fn find(&self, name: &ModelId) -> Result<CatalogEntry, FindError> {
        match self.catalog.get(name).await? {
            Some(entry) => Ok(entry),
            None => Err(self.unknown(name).await.into()),
        }
    }

    /// The entries of the first `limit` models, by id, and whether there are more.
    ///
    /// # Errors
    ///
    /// When the catalog cannot be read.
    pub async fn first(&self, limit: usize) -> Result<(Vec<CatalogEntry>, bool), StorageError> {
        let query = ListQuery {
            limit,
            ..ListQuery::default()
        };
        let page = self.catalog.list(query).await?;
        Ok((page.entries, page.next.is_some()))
    }

    /// Where all models stand that have a worker or are about to get one, by id.
    pub fn active(&self) -> Vec<Status> {
        self.context.hub.select(|status| status.stage.is_active())
    }

    /// Who holds the model `id`.
    pub fn holders(&self, id: &ModelId) -> Vec<Holder> {
        self.context.holders.of(id)
    }

    /// Version of the engine, as the last worker told it.
    pub fn engine_version(&self) -> Option<Arc<String>> {
        self.context.engine_version.load_full()
    }

    /// Whether every required model has been READY or FAILED since the start.
    pub fn is_settled(&self) -> bool {
        self.context.unsettled().is_empty()
    }

    /// Whether every required model that is known to be one is READY.
    pub fn required_are_ready(&self) -> bool {
        let ready = |model: &Arc<Model>| {
            !model.facts().entry.spec.required || model.status().stage == Stage::Ready
        };
        self.is_settled() && self.all().iter().all(ready)
    }

    /// The id that `name`, an id or an alias, stands for.
    pub fn resolve(&self, name: &ModelId) -> ModelId {
        self.catalog.resolve(name)
    }

    /// The cache of prepared weights, if any are kept.
    pub fn prepared(&self) -> Option<&Arc<PreparedCache>> {
        self.context.prepared.as_ref()
    }

    /// Runs a task of a request, whose caller hears when it is dropped. It ends at the latest when the worker that it
    /// uses is cut off; [`Fleet::shutdown`] waits for it.
    pub fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.context.tasks.request(task);
    }

    /// Begins no more loads.
    pub fn close(&self) {
        self.context.closing.cancel();
    }

    /// Whether the fleet is closed.
    pub fn is_closing(&self) -> bool {
        self.context.closing.is_cancelled()
    }

    /// Drains and unloads all models, then waits for every task. What was asked for stays as it is. Bounded
    /// by the drain and kill time-outs.
    pub async fn shutdown(&self) {
        self.close();
        let drain = self.context.limits.drain_timeout;
        let unload = async |model: Arc<Model>| {
            let (command, report) = UnloadCommand::new(drain);
            if model.commands.send(Command::Unload(command)).await.is_ok() {
                // A driver that is gone has left no worker behind.
                let _ = report.await;
            }
        };
        join_all(self.all().into_iter().map(unload)).await;
        self.context.end_drivers.cancel();
        self.context.tasks.close();
        self.context.tasks.wait().await;
        self.context.downloads.close().await;
    }

    /// What to tell of `id`, which nothing is registered under.
    pub async fn unknown(&self, id: &ModelId) -> UnknownModel {
        // Without the hint the error is as good.
        let known = self.catalog.known(KNOWN_IDS).await.unwrap_or_default();
        UnknownModel {
            id: id.clone(),
            known,
        }
    }
}

impl Context {
    /// The model `id`, if it is tracked.
    pub(super) fn model(&self, id: &ModelId) -> Option<Arc<Model>> {
        self.models().get(id).cloned()
    }

    /// Whether `model` has a driver that goes on.
    pub(super) fn is_driven(&self, model: &Model) -> bool {
        !self.closing.is_cancelled() && !model.commands.is_closed()
    }

    /// All models that are tracked, by id.
    pub(super) fn all(&self) -> Vec<Arc<Model>> {
        self.models().values().cloned().collect()
    }

    /// The model of `entry`, with a driver. `None` when the fleet is closed.
    pub(super) fn track(self: &Arc<Self>, entry: &CatalogEntry) -> Option<Arc<Model>> {
        let mut models = self.models();
        if self.closing.is_cancelled() {
            return None;
        }
        if let Some(model) = models.get(&entry.id) {
            return Some(model.clone());
        }
        let (commands, inbox) = mpsc::channel(COMMAND_QUEUE);
        let publisher = self.hub.publisher(Status {
            suspended: entry.suspended.clone(),
            ..Status::unloaded(entry.id.clone())
        });
        let status = publisher.cell().clone();
        let metrics = self.metrics.clone();
        let model = Arc::new(Model::new(entry.clone(), commands, metrics, status));
        let driver = Driver::new(self.clone(), model.clone(), inbox, publisher);
        let stuck = model.clone();
        self.tasks
            .of_model("driver", driver.drive(), move || stuck.abandon());
        models.insert(entry.id.clone(), model.clone());
        Some(model)
    }

    /// Stops tracking the model `id`, whose driver has ended.
    pub(super) fn untrack(&self, id: &ModelId) {
        self.models().remove(id);
    }

    /// Readiness waits for these models.
    pub(super) fn await_required(&self, required: impl Iterator<Item = ModelId>) {
        self.unsettled().extend(required);
    }

    /// The model `id` has been READY or FAILED, or need not be any more.
    pub(super) fn settled(&self, id: &ModelId) {
        if self.unsettled().remove(id) {
            self.hub.touch();
        }
    }

    fn models(&self) -> MutexGuard<'_, BTreeMap<ModelId, Arc<Model>>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsettled(&self) -> MutexGuard<'_, BTreeSet<ModelId>> {
        self.unsettled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
