//! One server: its parts put together, started in order and stopped in order.

use std::{
    fs::{File, OpenOptions},
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use hangar_client::{
    v1::inference_service_server::InferenceServiceServer, worker::v1::WorkerConfig,
};
use rustix::fs::{FlockOperation, flock};
use tokio::{net::TcpListener, runtime::Handle, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{codec::CompressionEncoding, service::Routes};
use tonic_health::pb::health_server::HealthServer;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    catalog::MemoryCatalog,
    config::{ConfigError, Settings},
    health::Health,
    lifecycle::{Fleet, Limits, Memory, Model, ModelRoots, Resources, SourceError},
    net::{self, ServeOptions},
    ops,
    rpc::{
        ApiError, InferenceApi, ModelApi, ModelApiOptions, WatchRoute, deadline::DeadlineLayer,
        health::HealthService, reflection,
    },
    status::Hub,
    system::SystemMonitor,
    telemetry::{
        Telemetry,
        model::{MemorySample, ModelMetrics, ModelSample, observe_models},
        rpc::RpcLayer,
    },
    worker::{Program, Spawner},
};

/// A running server. It has to be ended with [`Server::stop`].
pub struct Server {
    listen: SocketAddr,
    ops_listen: SocketAddr,
    fleet: Arc<Fleet>,
    hub: Arc<Hub>,
    health: Arc<Health>,
    main: Port,
    ops: Port,
    shutdown_timeout: Duration,
    _lock: File,
}

/// A server that did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A model root cannot be used.
    #[error(transparent)]
    ModelRoot(#[from] SourceError),
    /// Another server uses the data directory.
    #[error("{0} is in use by another hangar; stop that one or give another --data-dir")]
    Locked(String),
    /// A port cannot be bound.
    #[error("cannot listen on {address}: {cause}; stop what listens there or give another address")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        cause: io::Error,
    },
    /// Something else that the server needs of the system.
    #[error("{what}: {cause}")]
    System {
        /// What failed.
        what: &'static str,
        /// What the system says.
        cause: io::Error,
    },
    /// The descriptors that reflection serves are damaged.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// The task that serves a port.
struct Port {
    stop: CancellationToken,
    kill: CancellationToken,
    task: JoinHandle<()>,
}

/// Time that clients have to read what was made for them before the end.
const UNREAD: Duration = Duration::from_secs(2);

/// What is left for the end of workers and connections when all time for draining is used up.
const MARGIN: Duration = Duration::from_secs(5);

// === impl Server ===

impl Server {
    /// Starts a server. When this returns it serves.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub async fn start(settings: &Settings, telemetry: &Telemetry) -> Result<Self, StartError> {
        settings.prepare()?;
        let lock = lock(&settings.data_dir)?;
        remove_sockets(&settings.runtime_dir)?;
        let main_listener = bind(settings.listen).await?;
        let ops_listener = bind(settings.ops_listen).await?;
        let listen = address(&main_listener)?;
        let ops_listen = address(&ops_listener)?;

        let hub = Hub::new(settings.watch_ring);
        let meter = telemetry.meter();
        let metrics = ModelMetrics::new(&meter);
        let system = Arc::new(SystemMonitor::new(settings.data_dir.clone()));
        let memory = Memory::new(system.clone());
        let fleet = Fleet::new(resources(settings, hub.clone(), memory, metrics.clone())?);
        let sampled = fleet.clone();
        observe_models(&meter, Arc::new(move || samples(&sampled)));
        let health = Health::new(fleet.clone(), hub.clone());
        let tracker = TaskTracker::new();

        let main_stop = CancellationToken::new();
        let checks = HealthService::new(health.clone(), main_stop.clone(), settings.max_watchers)
            .into_server();
        let models = model_api(settings, &fleet, &hub, system, metrics);
        let routes = routes(settings, models, &fleet, checks.clone())?;
        let service = ServiceBuilder::new()
            .layer(RpcLayer::new(&meter))
            .layer(CatchPanicLayer::custom(panicked))
            .layer(DeadlineLayer)
            .service(routes.into_axum_router());
        let options = ServeOptions::main(settings.max_connections);
        let main_kill = options.kill.clone();
        let serving = net::serve(
            main_listener,
            service,
            options,
            main_stop.clone(),
            settings.shutdown_timeout,
        );
        let main = Port {
            stop: main_stop,
            kill: main_kill,
            task: tracker.spawn(serving),
        };

        let ops_stop = CancellationToken::new();
        let router = ops::router(telemetry.registry(), health.clone(), checks);
        let options = ServeOptions::ops(settings.max_connections);
        let ops_kill = options.kill.clone();
        let serving = net::serve(ops_listener, router, options, ops_stop.clone(), MARGIN);
        let ops = Port {
            stop: ops_stop,
            kill: ops_kill,
            task: tracker.spawn(serving),
        };

        health.set_started();
        tracing::info!(%listen, %ops_listen, "serving");
        let shutdown_timeout = settings.shutdown_timeout;
        Ok(Self {
            listen,
            ops_listen,
            fleet,
            hub,
            health,
            main,
            ops,
            shutdown_timeout,
            _lock: lock,
        })
    }

    /// Address of the main port.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Address of the ops port.
    pub fn ops_listen(&self) -> SocketAddr {
        self.ops_listen
    }

    /// Stops in order: readiness off, no new connections, watches ended, models drained and unloaded,
    /// connections closed. Says whether that was done within the shutdown time-out; if not, workers end
    /// with the process.
    pub async fn stop(self) -> bool {
        tracing::info!("shutting down");
        self.health.set_stopping();
        self.fleet.close();
        self.hub.close();
        self.main.stop.cancel();
        let (main, ops) = (self.main, self.ops);
        let orderly = async {
            self.fleet.shutdown().await;
            // Nothing is made any more: what is left was not taken by those who should have read it.
            main.end("main").await;
            ops.stop.cancel();
            ops.end("ops").await;
        };
        let in_time = tokio::time::timeout(self.shutdown_timeout, orderly)
            .await
            .is_ok();
        if !in_time {
            tracing::error!("the shutdown took too long; what is left ends with the process");
        }
        in_time
    }
}

// === impl Port ===

impl Port {
    /// Waits for the port's connections to end, and drops those that do not.
    async fn end(mut self, name: &str) {
        let ended = match tokio::time::timeout(UNREAD, &mut self.task).await {
            Ok(ended) => ended,
            Err(_) => {
                self.kill.cancel();
                self.task.await
            }
        };
        if let Err(error) = ended {
            tracing::error!(name, %error, "a port's task ended badly");
        }
    }
}

fn model_api(
    settings: &Settings,
    fleet: &Arc<Fleet>,
    hub: &Arc<Hub>,
    system: Arc<SystemMonitor>,
    metrics: ModelMetrics,
) -> ModelApi {
    let options = ModelApiOptions {
        load_timeout: settings.load_timeout,
        drain_timeout: settings.drain_timeout,
        max_watchers: settings.max_watchers,
        heartbeat: settings.watch_heartbeat,
    };
    ModelApi::new(fleet.clone(), hub.clone(), system, metrics, options)
}

fn routes(
    settings: &Settings,
    models: ModelApi,
    fleet: &Arc<Fleet>,
    checks: HealthServer<HealthService<Health>>,
) -> Result<Routes, StartError> {
    let inference = InferenceServiceServer::new(InferenceApi::new(fleet.clone()))
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(settings.max_request_bytes);
    let routes = Routes::new(WatchRoute::new(
        Arc::new(models),
        settings.max_request_bytes,
    ))
    .add_service(inference)
    .add_service(checks);
    if !settings.reflection {
        return Ok(routes);
    }
    Ok(routes
        .add_service(reflection::v1()?)
        .add_service(reflection::v1alpha()?))
}

fn resources(
    settings: &Settings,
    hub: Arc<Hub>,
    memory: Memory,
    metrics: ModelMetrics,
) -> Result<Resources, StartError> {
    let spawner = Spawner::start(Handle::current());
    let cache_dir = settings.data_dir.join("cache");
    let system = |what| move |cause| StartError::System { what, cause };
    std::fs::create_dir_all(&cache_dir).map_err(system("cannot create the cache directory"))?;
    Ok(Resources {
        catalog: Arc::new(MemoryCatalog::new(settings.max_models)),
        hub,
        roots: ModelRoots::resolve(&settings.model_roots)?,
        program: Program {
            path: settings.worker.clone(),
        },
        spawner: spawner.map_err(system("cannot start a thread"))?,
        runtime_dir: settings.runtime_dir.clone(),
        cache_dir,
        worker_template: WorkerConfig {
            otlp_endpoint: settings.otlp_endpoint.clone().unwrap_or_default(),
            // At info the engine tells more than its host's log should hold.
            log_filter: format!(
                "mistralrs=warn,mistralrs_core=warn,mistralrs_quant=warn,{}",
                settings.log
            ),
            trace_sample_ratio: settings.trace_sample_ratio,
            ..WorkerConfig::default()
        },
        memory,
        limits: limits(settings),
        metrics,
    })
}

fn limits(settings: &Settings) -> Limits {
    let left = settings
        .shutdown_timeout
        .saturating_sub(settings.kill_timeout * 2 + MARGIN);
    Limits {
        concurrent_loads: settings.max_concurrent_loads,
        max_concurrency: settings.default_max_concurrency,
        max_queue: settings.default_max_queue,
        ready_timeout: settings.ready_timeout,
        kill_timeout: settings.kill_timeout,
        hang_timeout: settings.hang_timeout,
        hang_timeout_per_prompt_token: settings.hang_timeout_per_prompt_token,
        stall_timeout: settings.stall_timeout,
        stall_timeout_per_gib: settings.stall_timeout_per_gib,
        drain_timeout: settings.drain_timeout.min(left),
    }
}

/// All models as metrics show them.
fn samples(fleet: &Fleet) -> Vec<ModelSample> {
    let sample = |model: &Arc<Model>| {
        let status = model.status();
        let usage = model.usage();
        let (in_flight, queued) = model.crowd();
        ModelSample {
            model: model.id().to_string(),
            state: status.stage.name(),
            memory: status.memory.map(|m| MemorySample {
                host: m.host_bytes,
                device: m.device_bytes,
            }),
            in_flight: in_flight.into(),
            queued: queued.into(),
            restarts: status.restarts,
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
        }
    };
    fleet.all().iter().map(sample).collect()
}

/// Keeps a second server out of the data directory for as long as the file is open.
fn lock(data_dir: &Path) -> Result<File, StartError> {
    let path = data_dir.join("lock");
    let open = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = open.map_err(|cause| StartError::System {
        what: "cannot open the lock of the data directory",
        cause,
    })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(StartError::Locked(data_dir.display().to_string())),
    }
}

/// Removes the sockets that a server which was killed has left behind.
fn remove_sockets(runtime_dir: &Path) -> Result<(), StartError> {
    let system = |cause| StartError::System {
        what: "cannot clean the runtime directory",
        cause,
    };
    for entry in std::fs::read_dir(runtime_dir).map_err(system)? {
        let path = entry.map_err(system)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "sock")
        {
            std::fs::remove_file(&path).map_err(system)?;
        }
    }
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|cause| StartError::Bind { address, cause })
}

fn address(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|cause| StartError::System {
        what: "cannot read a port's address",
        cause,
    })
}

/// The answer to a call whose handler panicked.
fn panicked(cause: Box<dyn std::any::Any + Send>) -> http::Response<tonic::body::Body> {
    let text = cause
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| cause.downcast_ref::<String>().cloned());
    let cause = text.unwrap_or_else(|| "a panic without words".to_owned());
    tonic::Status::from(ApiError::Internal(cause)).into_http()
}
