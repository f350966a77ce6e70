//! What all parts of the lifecycle share: settings, the catalog, memory and devices, the way to workers, what is
//! published, and the models that are tracked. It knows none of those parts.

mod announce;
mod find;
mod memory_needs;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use find::{FindError, UnknownModel};
use tokio_util::sync::CancellationToken;

use super::{
    LifecycleLimits, built_in_engine::BuiltInEngine, devices::Devices, holders::Holders,
    load_slots::LoadSlots, memory::MemoryAdmission, source::ModelRoots,
    tracked_model::TrackedModel,
};
use crate::{
    catalog::Catalog,
    download::Downloads,
    model::{ModelId, Status},
    prepared::PreparedCache,
    status::EventLog,
    supervisor::{Supervisor, Tasks},
    telemetry::model_metrics::ModelMetrics,
    worker::{CommonConfig, Spawner, WorkerProgram},
};

/// What a fleet is made of.
pub struct Resources {
    /// What is registered.
    pub catalog: Catalog,
    /// Where transitions are published.
    pub event_log: Arc<EventLog>,
    /// Where models may be loaded from.
    pub roots: ModelRoots,
    /// Brings models from the hub.
    pub downloads: Arc<Downloads>,
    /// The worker program for models on the CPU.
    pub program: WorkerProgram,
    /// Starts it.
    pub spawner: Spawner,
    /// Directory for sockets: private, and so short that socket paths fit.
    pub runtime_dir: PathBuf,
    /// What is kept of prepared weights.
    pub prepared: Option<Arc<PreparedCache>>,
    /// What all workers get.
    pub worker_config: CommonConfig,
    /// What there is of memory.
    pub memory: MemoryAdmission,
    /// The GPUs that models may be on.
    pub devices: Arc<Devices>,
    /// Limits and deadlines.
    pub limits: LifecycleLimits,
    /// Watches the tasks.
    pub supervisor: Supervisor,
    /// Where loads, unloads and requests are recorded.
    pub metrics: ModelMetrics,
}

/// What all parts of the lifecycle share.
pub(super) struct Context {
    pub(super) catalog: Catalog,
    pub(super) event_log: Arc<EventLog>,
    pub(super) roots: ModelRoots,
    pub(super) downloads: Arc<Downloads>,
    pub(super) program: WorkerProgram,
    pub(super) spawner: Spawner,
    pub(super) runtime_dir: PathBuf,
    pub(super) limits: LifecycleLimits,
    pub(super) slots: LoadSlots,
    pub(super) tasks: Tasks,
    pub(super) engine: BuiltInEngine,
    pub(super) metrics: ModelMetrics,
    pub(super) memory: MemoryAdmission,
    pub(super) devices: Arc<Devices>,
    /// To be read.
    pub(super) holders: Holders,
    /// No more loads are begun.
    pub(super) closing: CancellationToken,
    pub(super) prepared: Option<Arc<PreparedCache>>,
    /// Ends the drivers.
    pub(super) end_drivers: CancellationToken,
    pub(super) worker_config: Arc<CommonConfig>,
    models: Mutex<BTreeMap<ModelId, Arc<TrackedModel>>>,
    /// Required models that have been neither READY nor FAILED since the start.
    awaiting_first_outcome: Mutex<BTreeSet<ModelId>>,
}

impl Context {
    /// No model is tracked yet. Who holds them is written elsewhere.
    pub(super) fn new(resources: Resources, holders: Holders) -> Arc<Self> {
        Arc::new(Self {
            catalog: resources.catalog,
            event_log: resources.event_log,
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
            engine: BuiltInEngine::default(),
            metrics: resources.metrics,
            memory: resources.memory,
            devices: resources.devices,
            holders,
            closing: CancellationToken::new(),
            prepared: resources.prepared,
            end_drivers: CancellationToken::new(),
            worker_config: Arc::new(resources.worker_config),
            models: Mutex::default(),
            awaiting_first_outcome: Mutex::default(),
        })
    }

    /// The model `id`, if it is tracked.
    pub(super) fn model(&self, id: &ModelId) -> Option<Arc<TrackedModel>> {
        self.models().get(id).cloned()
    }

    /// Whether `model` has a driver that goes on.
    pub(super) fn is_driven(&self, model: &TrackedModel) -> bool {
        !self.is_closing() && model.is_driven()
    }

    /// Whether no more loads are begun.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// The model that `name`, an id or an alias, stands for, if it is tracked.
    pub(super) fn tracked(&self, name: &ModelId) -> Option<Arc<TrackedModel>> {
        self.model(&self.catalog.resolve(name))
    }

    /// All models that are tracked, by id.
    pub(super) fn all(&self) -> Vec<Arc<TrackedModel>> {
        self.models().values().cloned().collect()
    }

    /// Where all models stand that have a worker or are about to get one, by id.
    pub(super) fn active(&self) -> Vec<Status> {
        self.event_log.select(|status| status.state.is_active())
    }

    /// The model `id`, which `make` makes if it is not tracked yet. `None` when the fleet is closed.
    pub(super) fn track(
        &self,
        id: &ModelId,
        make: impl FnOnce() -> Arc<TrackedModel>,
    ) -> Option<Arc<TrackedModel>> {
        let mut models = self.models();
        if self.is_closing() {
            return None;
        }
        let model = models.entry(id.clone()).or_insert_with(make);
        Some(model.clone())
    }

    /// Stops tracking the model `id`, whose driver has ended.
    fn remove(&self, id: &ModelId) {
        self.models().remove(id);
    }

    /// Readiness waits for these models.
    pub(super) fn await_required(&self, required: impl Iterator<Item = ModelId>) {
        self.awaiting_first_outcome().extend(required);
    }

    /// Whether every required model has been READY or FAILED since the start.
    pub(super) fn required_models_done(&self) -> bool {
        self.awaiting_first_outcome().is_empty()
    }

    /// The model `id` has been READY or FAILED, or need not be any more.
    pub(super) fn record_first_outcome(&self, id: &ModelId) {
        if self.awaiting_first_outcome().remove(id) {
            self.event_log.touch();
        }
    }

    fn models(&self) -> MutexGuard<'_, BTreeMap<ModelId, Arc<TrackedModel>>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn awaiting_first_outcome(&self) -> MutexGuard<'_, BTreeSet<ModelId>> {
        self.awaiting_first_outcome
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
