//! One server: its parts put together, started in order and stopped in order.

mod leftovers;
mod parts;
mod routes;

use std::{fs::File, io, net::SocketAddr, sync::Arc, time::Duration};

use hangar_client::status::StatusService;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tower::{ServiceBuilder, layer::layer_fn};
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    catalog::{Catalog, OpenError, StorageError},
    config::{ConfigError, Settings},
    health::Health,
    lifecycle::{DeclarationError, Fleet, Model, Sampling, SourceError},
    net::{self, ServeOptions},
    ops,
    rpc::{
        ApiError, CatalogApi, InferenceApi, OpenInferenceApi, SessionApi, completed,
        deadline::DeadlineLayer, declared, health::HealthService, unwinding::UnwindBody,
    },
    status::Hub,
    supervisor::{self, Supervisor},
    system::{DeviceMonitor, Nvml, SystemMonitor},
    telemetry::{
        Telemetry,
        cache::observe_cache,
        model::{MemorySample, ModelMetrics, ModelSample, observe_models},
        rpc::RpcLayer,
    },
};
use leftovers::{lock, remove_sockets};
use parts::resources;
use routes::{Apis, model_api, model_api_options, routes};

/// A running server. It has to be ended with [`Server::stop`].
pub struct Server {
    listen: SocketAddr,
    ops_listen: SocketAddr,
    catalog: Catalog,
    fleet: Arc<Fleet>,
    hub: Arc<Hub>,
    health: Arc<Health>,
    history: Sampling,
    main: Port,
    ops: Port,
    supervisor: Supervisor,
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
    /// The catalog cannot be used.
    #[error(transparent)]
    Catalog(#[from] OpenError),
    /// The catalog cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A declared model cannot be taken over.
    #[error(transparent)]
    Declaration(#[from] DeclarationError),
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
        let supervisor = Supervisor::new(settings.time_limits.liveness);
        let file = settings.data_dir.join("catalog.db");
        let catalog = Catalog::open(&file, settings.max_models, &supervisor)?;
        let main_listener = bind(settings.listen).await?;
        let ops_listener = bind(settings.ops_listen).await?;
        let listen = address(&main_listener)?;
        let ops_listen = address(&ops_listener)?;

        let hub = Hub::new(settings.watch_ring);
        let meter = telemetry.meter();
        let metrics = ModelMetrics::new(&meter);
        let devices = DeviceMonitor::start(Nvml::open, &supervisor)
            .map_err(system_error("cannot start a thread"))?;
        let system = SystemMonitor::new(settings.data_dir.clone()).with_devices(devices);
        let system = Arc::new(system);
        let fleet = Fleet::new(resources(
            settings,
            catalog.clone(),
            hub.clone(),
            &system,
            metrics.clone(),
            &supervisor,
        )?);
        fleet.declare(declared(&settings.models)?).await?;
        fleet.track_all(catalog.ids().await?);
        if let Some(cache) = fleet.prepared() {
            observe_cache(&meter, cache);
        }
        let sampled = fleet.clone();
        observe_models(&meter, Arc::new(move || samples(&sampled)));
        let health = Health::new(
            fleet.clone(),
            hub.clone(),
            supervisor.clone(),
            settings.readiness,
        );
        let tasks = supervisor.tasks();
        let news = hub.clone();
        let clock = supervisor
            .clock()
            .map_err(system_error("cannot start a thread"))?;
        let watching = supervisor.clone().watch(clock, move || news.touch());
        tasks.critical("liveness", watching);
        let history = Sampling::start(
            fleet.clone(),
            catalog.clone(),
            settings.history_interval,
            &tasks,
        );

        let main_stop = CancellationToken::new();
        let checks = HealthService::new(health.clone(), main_stop.clone(), settings.max_watchers)
            .into_server();
        let models = Arc::new(model_api(settings, &fleet, &hub, system, metrics));
        let apis = Apis {
            catalog: CatalogApi::new(fleet.clone()),
            open: OpenInferenceApi::new(
                fleet.clone(),
                model_api_options(settings),
                health.clone(),
                main_stop.clone(),
            ),
            sessions: SessionApi::new(fleet.clone()),
            models,
            inference: InferenceApi::new(fleet.clone()),
        };
        let routes = routes(settings, apis, checks.clone());
        let service = ServiceBuilder::new()
            .layer(RpcLayer::new(&meter))
            .layer(layer_fn(|inner| StatusService::finishing(inner, completed)))
            .map_response(|response: http::Response<_>| response.map(UnwindBody::new))
            .layer(CatchPanicLayer::custom(panicked))
            .layer(DeadlineLayer)
            .service(routes.into_axum_router());
        let options = ServeOptions::main(settings.max_connections);
        let main_kill = options.kill.clone();
        let serving = net::serve(
            supervisor.clone(),
            main_listener,
            service,
            options,
            main_stop.clone(),
            settings.time_limits.shutdown,
        );
        let main = Port {
            stop: main_stop,
            kill: main_kill,
            task: tasks.critical("main-port", serving),
        };

        let ops_stop = CancellationToken::new();
        let router = ops::router(
            telemetry.registry(),
            health.clone(),
            checks,
            settings.reflection,
        );
        let options = ServeOptions::ops(settings.max_connections);
        let ops_kill = options.kill.clone();
        let serving = net::serve(
            supervisor.clone(),
            ops_listener,
            router,
            options,
            ops_stop.clone(),
            MARGIN,
        );
        let ops = Port {
            stop: ops_stop,
            kill: ops_kill,
            task: tasks.critical("ops-port", serving),
        };

        fleet.reconcile().await?;
        health.set_started();
        tracing::info!(%listen, %ops_listen, "serving");
        let shutdown_timeout = settings.time_limits.shutdown;
        Ok(Self {
            listen,
            ops_listen,
            catalog,
            fleet,
            hub,
            health,
            history,
            main,
            ops,
            supervisor,
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

    /// Watches the server's tasks. After a death of one of them the server is to be stopped.
    pub fn supervisor(&self) -> Supervisor {
        self.supervisor.clone()
    }

    /// Stops in order: readiness off, no new connections, watches ended, models drained and unloaded,
    /// connections closed. Says whether that was done within the shutdown time-out; if not, workers end
    /// with the process.
    pub async fn stop(self) -> bool {
        tracing::info!("shutting down");
        self.supervisor.stop();
        self.health.set_stopping();
        self.fleet.close();
        self.hub.close();
        self.main.stop.cancel();
        let (main, ops) = (self.main, self.ops);
        let orderly = async {
            self.fleet.shutdown().await;
            self.history.end().await;
            // Nothing is made any more: what is left was not taken by those who should have read it.
            main.end("main").await;
            ops.stop.cancel();
            ops.end("ops").await;
            self.catalog.close().await;
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

fn system_error(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |cause| StartError::System { what, cause }
}

/// All models as metrics show them.
fn samples(fleet: &Fleet) -> Vec<ModelSample> {
    let sample = |model: &Arc<Model>| {
        let status = model.status();
        let totals = model.totals();
        let (in_flight, queued) = model.occupancy();
        ModelSample {
            model: model.id().to_string(),
            state: status.stage.name(),
            memory: status.memory.map(|m| MemorySample {
                host: m.host_bytes,
                device: m.device_bytes,
            }),
            kv_blocks: status
                .kv_blocks
                .map(|blocks| (blocks.used.into(), blocks.total.into())),
            in_flight: in_flight.into(),
            queued: queued.into(),
            restarts: status.restarts,
            prompt_tokens: totals.prompt_tokens,
            completion_tokens: totals.completion_tokens,
        }
    };
    fleet.all().iter().map(sample).collect()
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
    let cause = supervisor::panic_message(&*cause);
    tonic::Status::from(ApiError::Internal(cause)).into_http()
}
