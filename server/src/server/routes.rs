//! The services of the main port.

use std::sync::Arc;

use hangar_client::{
    inference::grpc_inference_service_server::GrpcInferenceServiceServer,
    v1::{
        catalog_service_server::CatalogServiceServer, session_service_server::SessionServiceServer,
    },
};
use tonic::{codec::CompressionEncoding, service::Routes};
use tonic_health::pb::health_server::HealthServer;

use crate::{
    config::Settings,
    health::Health,
    lifecycle::Fleet,
    rpc::{
        CatalogApi, GenerateRoute, InferenceApi, ModelApi, ModelApiOptions, OpenInferenceApi,
        SessionApi, WatchRoute,
        health::HealthService,
        reflection::{self, ReflectedPort},
    },
    status::EventLog,
    system::SystemMonitor,
    telemetry::model_metrics::ModelMetrics,
};

/// The API's services.
pub(super) struct Apis {
    pub(super) models: Arc<ModelApi>,
    pub(super) catalog: CatalogApi,
    pub(super) inference: InferenceApi,
    pub(super) open: OpenInferenceApi,
    pub(super) sessions: SessionApi,
}

pub(super) fn model_api(
    settings: &Settings,
    fleet: &Arc<Fleet>,
    event_log: &Arc<EventLog>,
    system: Arc<SystemMonitor>,
    metrics: ModelMetrics,
) -> ModelApi {
    let options = model_api_options(settings);
    ModelApi::new(fleet.clone(), event_log.clone(), system, metrics, options)
}

pub(super) fn model_api_options(settings: &Settings) -> ModelApiOptions {
    ModelApiOptions {
        load_timeout: settings.time_limits.load,
        drain_timeout: settings.time_limits.drain,
        max_watchers: settings.max_watchers,
        heartbeat: settings.watch_heartbeat,
    }
}

pub(super) fn routes(
    settings: &Settings,
    apis: Apis,
    checks: HealthServer<HealthService<Health>>,
) -> Routes {
    let Apis {
        models,
        catalog,
        inference,
        open,
        sessions,
    } = apis;
    let open = GrpcInferenceServiceServer::new(open)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(settings.max_request_bytes);
    let catalog = CatalogServiceServer::new(catalog)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(settings.max_request_bytes);
    let sessions =
        SessionServiceServer::new(sessions).max_decoding_message_size(settings.max_request_bytes);
    let routes = Routes::new(WatchRoute::watch(models, settings.max_request_bytes))
        .add_service(sessions)
        .add_service(catalog)
        .add_service(GenerateRoute::generate(
            inference,
            settings.max_request_bytes,
        ))
        .add_service(open)
        .add_service(checks);
    if !settings.reflection {
        return routes;
    }
    routes
        .add_service(reflection::v1(ReflectedPort::Main))
        .add_service(reflection::v1alpha(ReflectedPort::Main))
}
