//! One server: its parts put together, started in order and stopped in order.

mod control_plane;
mod large_requests;
mod leftovers;
mod port;
mod resources;
mod routes;
mod start_error;

use std::{fs::File, net::SocketAddr, sync::Arc, time::Duration};

use control_plane::ControlPlane;
use leftovers::{lock, lock_sockets, remove_sockets};
use port::ServedPort;
pub use start_error::StartError;
use start_error::system_error;
use tokio::{net::TcpListener, runtime::Handle};
use tokio_util::sync::CancellationToken;

use crate::{
    catalog::Catalog,
    config::Settings,
    failpoint,
    health::Health,
    lifecycle::{Fleet, HistorySampling},
    rpc::health::HealthService,
    status::EventLog,
    supervisor::Supervisor,
    telemetry::Telemetry,
    worker::Spawner,
};

/// A running server. It has to be ended with [`Server::stop`].
pub struct Server {
    listen: SocketAddr,
    ops_listen: SocketAddr,
    catalog: Catalog,
    fleet: Arc<Fleet>,
    event_log: Arc<EventLog>,
    health: Arc<Health>,
    history: HistorySampling,
    main: ServedPort,
    ops: ServedPort,
    supervisor: Supervisor,
    shutdown_timeout: Duration,
    _locks: [File; 2],
}

impl Server {
    /// Starts a server, in a task of its own: whoever waits for it goes on turning. When this returns it serves, and nothing is
    /// loaded.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub async fn start(settings: Settings, telemetry: Arc<Telemetry>) -> Result<Self, StartError> {
        let supervisor = Supervisor::new(settings.time_limits.liveness);
        let tasks = supervisor.tasks();
        let start = async move { Self::assemble(&settings, &telemetry, supervisor).await };
        tasks.finish(start).await.unwrap_or(Err(StartError::Lost))
    }

    /// Begins the loads that were asked for: then the server has started. Where this is cancelled, it is to be stopped.
    ///
    /// # Errors
    ///
    /// When the catalog cannot be read.
    pub async fn begin_loads(&self) -> Result<(), StartError> {
        self.fleet.reconcile().await?;
        self.health.set_started();
        let (listen, ops_listen) = (self.listen, self.ops_listen);
        tracing::info!(%listen, %ops_listen, "serving");
        Ok(())
    }

    async fn assemble(
        settings: &Settings,
        telemetry: &Telemetry,
        supervisor: Supervisor,
    ) -> Result<Self, StartError> {
        failpoint::pass("start", None);
        settings.prepare()?;
        let locks = [
            lock(&settings.data_dir)?,
            lock_sockets(&settings.runtime_dir)?,
        ];
        remove_sockets(&settings.runtime_dir)?;
        let file = settings.data_dir.join("catalog.db");
        let catalog = Catalog::open(&file, settings.max_models, &supervisor)?;
        let main_listener = bind(settings.listen).await?;
        let ops_listener = bind(settings.ops_listen).await?;
        let listen = address(&main_listener)?;
        let ops_listen = address(&ops_listener)?;

        let spawner = Spawner::start(Handle::current(), &supervisor);
        let spawner = spawner.map_err(system_error("cannot start a thread"))?;
        let control =
            ControlPlane::start(settings, telemetry, catalog, spawner, supervisor).await?;
        control.watch_tasks()?;
        let history = control.sample_history(settings);

        let stop = CancellationToken::new();
        let checks =
            HealthService::new(control.health.clone(), stop.clone(), settings.max_watchers)
                .into_server();
        let main = ServedPort::main(
            &control,
            settings,
            telemetry,
            main_listener,
            stop,
            checks.clone(),
        );
        let ops = ServedPort::ops(&control, settings, telemetry, ops_listener, checks);
        Ok(Self {
            listen,
            ops_listen,
            catalog: control.catalog,
            fleet: control.fleet,
            event_log: control.event_log,
            health: control.health,
            history,
            main,
            ops,
            supervisor: control.supervisor,
            shutdown_timeout: settings.time_limits.shutdown,
            _locks: locks,
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
        self.event_log.close();
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

#[cfg(test)]
mod tests;
