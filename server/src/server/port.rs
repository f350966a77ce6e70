//! The two ports: each is served by a task, which ends in order.

use std::{sync::Arc, time::Duration};

use axum::middleware::from_fn;
use hangar_client::status::StatusService;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic_health::pb::health_server::HealthServer;
use tower::{ServiceBuilder, layer::layer_fn};
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    control_plane::ControlPlane,
    resources::MARGIN,
    routes::{Apis, model_api, model_api_options, routes},
};
use crate::{
    config::Settings,
    health::Health,
    net::{self, ServeOptions},
    ops,
    rpc::{
        CatalogApi, InferenceApi, OpenInferenceApi, SessionApi, completed,
        deadline::DeadlineLayer,
        health::HealthService,
        metadata_limit::limit_metadata,
        request_memory::RequestMemoryLayer,
        unwinding::{UnwindBody, panicked},
    },
    telemetry::{Telemetry, rpc::RpcLayer},
};

/// The task that serves a port.
pub(super) struct ServedPort {
    pub(super) stop: CancellationToken,
    kill: CancellationToken,
    task: JoinHandle<()>,
}

/// Time that clients have to read what was made for them before the end.
const UNREAD: Duration = Duration::from_secs(2);

/// Health over gRPC, which both ports have.
type Checks = HealthServer<HealthService<Health>>;

impl ServedPort {
    /// Serves the API. Its watches and streams end when `stop` is cancelled.
    pub(super) fn main(
        control: &ControlPlane,
        settings: &Settings,
        telemetry: &Telemetry,
        listener: TcpListener,
        stop: CancellationToken,
        checks: Checks,
    ) -> Self {
        let apis = apis(control, settings, stop.clone());
        let service = ServiceBuilder::new()
            .layer(RpcLayer::new(&telemetry.meter()))
            .layer(layer_fn(|inner| StatusService::finishing(inner, completed)))
            .map_response(|response: http::Response<_>| response.map(UnwindBody::new))
            .layer(CatchPanicLayer::custom(panicked))
            .layer(DeadlineLayer)
            .layer(RequestMemoryLayer::new(settings.max_request_memory))
            .service(
                routes(settings, apis, checks)
                    .into_axum_router()
                    .layer(from_fn(limit_metadata)),
            );
        let options = limited(ServeOptions::main(settings.max_connections), settings);
        let kill = options.kill.clone();
        let serving = net::serve(
            control.supervisor.clone(),
            listener,
            service,
            options,
            stop.clone(),
            settings.time_limits.shutdown,
        );
        let task = control.supervisor.tasks().critical("main-port", serving);
        Self { stop, kill, task }
    }

    /// Serves metrics and health.
    pub(super) fn ops(
        control: &ControlPlane,
        settings: &Settings,
        telemetry: &Telemetry,
        listener: TcpListener,
        checks: Checks,
    ) -> Self {
        let stop = CancellationToken::new();
        let router = ops::router(
            telemetry.registry(),
            control.health.clone(),
            checks,
            settings.reflection,
        );
        let options = limited(ServeOptions::ops(settings.max_connections), settings);
        let kill = options.kill.clone();
        let serving = net::serve(
            control.supervisor.clone(),
            listener,
            router,
            options,
            stop.clone(),
            MARGIN,
        );
        let task = control.supervisor.tasks().critical("ops-port", serving);
        Self { stop, kill, task }
    }

    /// Waits for the port's connections to end, and drops those that do not.
    pub(super) async fn end(mut self, name: &str) {
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

fn limited(options: ServeOptions, settings: &Settings) -> ServeOptions {
    ServeOptions {
        max_idle: settings.time_limits.connection_idle,
        max_age: settings.time_limits.connection_age,
        ..options
    }
}

pub(super) fn apis(control: &ControlPlane, settings: &Settings, stop: CancellationToken) -> Apis {
    let ControlPlane {
        fleet,
        event_log,
        health,
        system,
        metrics,
        ..
    } = control;
    let models = model_api(settings, fleet, event_log, system.clone(), metrics.clone());
    let options = model_api_options(settings);
    Apis {
        models: Arc::new(models),
        catalog: CatalogApi::new(fleet.clone()),
        inference: InferenceApi::new(fleet.clone()),
        open: OpenInferenceApi::new(fleet.clone(), options, health.clone(), stop),
        sessions: SessionApi::new(fleet.clone()),
    }
}
