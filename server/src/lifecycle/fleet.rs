//! All models: the way in to their lives.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use hangar_client::worker::v1::WorkerConfig;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Span;

use super::{
    Limits,
    driver::{Command, Driver, LoadCommand, LoadTicket, UnloadCommand, UnloadReport},
    memory::Memory,
    model::Model,
    source::{ModelRoots, SourceError},
};
use crate::{
    catalog::{Catalog, Entry, OnConflict, RegisterError},
    model::{ModelId, Source, Spec, Status},
    status::Hub,
    telemetry::model::ModelMetrics,
    wire,
    worker::{Program, Spawner},
};

/// All models. Cheap to share; ends with [`Fleet::shutdown`].
pub struct Fleet {
    context: Arc<Context>,
    catalog: Arc<dyn Catalog>,
    models: Mutex<BTreeMap<ModelId, Arc<Model>>>,
    closing: CancellationToken,
}

/// What a fleet is made of.
pub struct Resources {
    /// What is registered.
    pub catalog: Arc<dyn Catalog>,
    /// Where transitions are published.
    pub hub: Arc<Hub>,
    /// Where models may be loaded from.
    pub roots: ModelRoots,
    /// The worker program.
    pub program: Program,
    /// Starts it.
    pub spawner: Spawner,
    /// Directory for sockets: private, and so short that socket paths fit.
    pub runtime_dir: PathBuf,
    /// Directory for files that workers make.
    pub cache_dir: PathBuf,
    /// What workers get besides the model: telemetry.
    pub worker_template: WorkerConfig,
    /// What there is of memory.
    pub memory: Memory,
    /// Limits and deadlines.
    pub limits: Limits,
    /// Where loads, unloads and requests are recorded.
    pub metrics: ModelMetrics,
}

/// What the drivers of a fleet share.
pub(super) struct Context {
    pub(super) hub: Arc<Hub>,
    pub(super) roots: ModelRoots,
    pub(super) program: Program,
    pub(super) spawner: Spawner,
    pub(super) runtime_dir: PathBuf,
    pub(super) limits: Limits,
    pub(super) slots: Arc<Semaphore>,
    pub(super) tracker: TaskTracker,
    pub(super) engine_version: ArcSwapOption<String>,
    pub(super) metrics: ModelMetrics,
    pub(super) memory: Memory,
    /// Ends the drivers.
    pub(super) retired: CancellationToken,
    cache_dir: PathBuf,
    worker_template: WorkerConfig,
}

/// How to load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Registers the model, or has to equal what is registered.
    pub spec: Option<Spec>,
    /// Load anew although it is READY, and replace a spec that differs.
    pub force: bool,
    /// Time for all attempts together.
    pub timeout: Duration,
}

/// A load that was not begun.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No such model.
    #[error(transparent)]
    Unknown(#[from] UnknownModel),
    /// The source may not be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The spec was not registered.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
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

/// Commands that wait for a driver.
const INBOX: usize = 64;

/// Id under which the demo model can be loaded without a spec.
const DEMO: &str = "demo";

/// Ids that an error tells.
const KNOWN_IDS: usize = 10;

// === impl Fleet ===

impl Fleet {
    /// A fleet without models.
    pub fn new(resources: Resources) -> Arc<Self> {
        let context = Context {
            hub: resources.hub,
            roots: resources.roots,
            program: resources.program,
            spawner: resources.spawner,
            runtime_dir: resources.runtime_dir,
            slots: Arc::new(Semaphore::new(resources.limits.concurrent_loads.max(1))),
            limits: resources.limits,
            tracker: TaskTracker::new(),
            engine_version: ArcSwapOption::empty(),
            metrics: resources.metrics,
            memory: resources.memory,
            retired: CancellationToken::new(),
            cache_dir: resources.cache_dir,
            worker_template: resources.worker_template,
        };
        Arc::new(Self {
            context: Arc::new(context),
            catalog: resources.catalog,
            models: Mutex::default(),
            closing: CancellationToken::new(),
        })
    }

    /// Loads the model `id`. Answers when its driver has taken the order.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    pub async fn load(&self, id: &ModelId, options: LoadOptions) -> Result<LoadTicket, LoadError> {
        self.check_load(id, &options).await?;
        let entry = match options.spec {
            Some(spec) => {
                let on_conflict = if options.force {
                    OnConflict::Replace
                } else {
                    OnConflict::Refuse
                };
                self.catalog.register(id.clone(), spec, on_conflict).await?
            }
            None => self.registered(id).await?,
        };
        let (reply, ticket) = oneshot::channel();
        let model = self.introduce(&entry).ok_or(LoadError::ShuttingDown)?;
        let command = LoadCommand {
            entry,
            force: options.force,
            timeout: options.timeout,
            span: Span::current(),
            reply,
        };
        let sent = model.commands.send(Command::Load(command)).await;
        sent.map_err(|_| LoadError::ShuttingDown)?;
        ticket.await.map_err(|_| LoadError::ShuttingDown)
    }

    /// Checks a load as far as that can be done without beginning it.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    pub async fn check_load(&self, id: &ModelId, options: &LoadOptions) -> Result<(), LoadError> {
        if self.closing.is_cancelled() {
            return Err(LoadError::ShuttingDown);
        }
        let Some(spec) = &options.spec else {
            return self.registered(id).await.map(|_| ());
        };
        match self.catalog.get(id).await {
            Some(entry) if *entry.spec != *spec && !options.force => {
                Err(RegisterError::Conflict(Box::new(entry)).into())
            }
            _ => match self.context.roots.locate(&spec.source).await {
                // What is missing may come: the load itself tells, and is seen to fail.
                Ok(_) | Err(SourceError::Unreadable { .. }) => Ok(()),
                Err(error @ SourceError::NotAllowed { .. }) => Err(error.into()),
            },
        }
    }

    /// Unloads the model `id` and answers when its worker is gone.
    ///
    /// # Errors
    ///
    /// When no such model is registered.
    pub async fn unload(
        &self,
        id: &ModelId,
        drain_timeout: Duration,
    ) -> Result<UnloadReport, UnknownModel> {
        let model = self.model(id)?;
        let (reply, report) = oneshot::channel();
        let sent = model
            .commands
            .send(Command::Unload(UnloadCommand {
                drain_timeout,
                reply,
            }))
            .await;
        let gone = || self.unknown(id);
        sent.map_err(|_| gone())?;
        report.await.map_err(|_| gone())
    }

    /// The model `id`.
    ///
    /// # Errors
    ///
    /// When no such model is registered.
    pub fn model(&self, id: &ModelId) -> Result<Arc<Model>, UnknownModel> {
        let model = self.models().get(id).cloned();
        model.ok_or_else(|| self.unknown(id))
    }

    /// All models, by id.
    pub fn all(&self) -> Vec<Arc<Model>> {
        self.models().values().cloned().collect()
    }

    /// Where all models stand, at one moment, by id.
    pub fn statuses(&self) -> BTreeMap<ModelId, Status> {
        self.context.hub.snapshot()
    }

    /// Models that have a worker or are about to get one, by id.
    pub fn active(&self) -> Vec<ModelId> {
        self.statuses()
            .into_iter()
            .filter(|(_, s)| s.stage.is_active())
            .map(|(id, _)| id)
            .collect()
    }

    /// Version of the engine, as the last worker told it.
    pub fn engine_version(&self) -> Option<Arc<String>> {
        self.context.engine_version.load_full()
    }

    /// Runs a task that ends at the latest when the worker that it uses is cut off; [`Fleet::shutdown`]
    /// waits for it.
    pub fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.context.tracker.spawn(task);
    }

    /// Begins no more loads.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// Whether the fleet is closed.
    pub fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Drains and unloads all models, then waits for every task. Bounded by the drain and kill time-outs.
    pub async fn shutdown(&self) {
        self.close();
        let drain = self.context.limits.drain_timeout;
        let mut unloads = JoinSet::new();
        for model in self.all() {
            unloads.spawn(async move {
                let (reply, report) = oneshot::channel();
                let command = Command::Unload(UnloadCommand {
                    drain_timeout: drain,
                    reply,
                });
                if model.commands.send(command).await.is_ok() {
                    // A driver that is gone has left no worker behind.
                    let _ = report.await;
                }
            });
        }
        while unloads.join_next().await.is_some() {}
        self.context.retired.cancel();
        self.context.tracker.close();
        self.context.tracker.wait().await;
    }

    /// What is registered under `id`. The demo model need not be: its name is enough.
    async fn registered(&self, id: &ModelId) -> Result<Entry, LoadError> {
        match self.catalog.get(id).await {
            Some(entry) => Ok(entry),
            None if id.as_str() == DEMO => Ok(self
                .catalog
                .register(id.clone(), Spec::of(Source::Demo), OnConflict::Refuse)
                .await?),
            None => Err(self.unknown(id).into()),
        }
    }

    /// The model of `entry`, with a driver. `None` when the fleet is closed.
    fn introduce(&self, entry: &Entry) -> Option<Arc<Model>> {
        let mut models = self.models();
        if self.closing.is_cancelled() {
            return None;
        }
        if let Some(model) = models.get(&entry.id) {
            return Some(model.clone());
        }
        let (commands, inbox) = mpsc::channel(INBOX);
        let model = Arc::new(Model::new(
            entry.clone(),
            commands,
            self.context.metrics.clone(),
        ));
        self.context.hub.introduce(Status::clone(&model.status()));
        let driver = Driver::new(self.context.clone(), model.clone(), inbox);
        self.context.tracker.spawn(driver.drive());
        models.insert(entry.id.clone(), model.clone());
        Some(model)
    }

    fn unknown(&self, id: &ModelId) -> UnknownModel {
        let known = self.models().keys().take(KNOWN_IDS).cloned().collect();
        UnknownModel {
            id: id.clone(),
            known,
        }
    }

    fn models(&self) -> MutexGuard<'_, BTreeMap<ModelId, Arc<Model>>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Context ===

impl Context {
    /// What a worker for `spec` is told, without what belongs to one run.
    pub(super) fn worker_config(&self, spec: &Spec) -> WorkerConfig {
        WorkerConfig {
            protocol_version: crate::worker::PROTOCOL_VERSION,
            server_pid: std::process::id(),
            cache_dir: self.cache_dir.display().to_string(),
            ..wire::worker_config(spec, &self.worker_template)
        }
    }
}
