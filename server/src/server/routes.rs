//! The services of the main port.

use std::sync::Arc;

use hangar_client::{
    inference::{
        grpc_inference_service, grpc_inference_service_server::GrpcInferenceServiceServer,
    },
    v1::{
        catalog_service_server::CatalogServiceServer, session_service_server::SessionServiceServer,
    },
};
use tonic::{codec::CompressionEncoding, service::Routes};
use tonic_health::pb::health_server::HealthServer;

use super::large_requests::LargeRequests;
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

/// Largest request about models and their entries: a spec with its chat template, and all else that it may say.
const MAX_SPEC_REQUEST: usize = 1 << 20;

/// The methods of the Open Inference Protocol whose requests carry what models read; those of all others are about models.
pub(super) const LARGE: &[&str] = &[
    grpc_inference_service::MODEL_INFER,
    grpc_inference_service::MODEL_STREAM_INFER,
];

/// Largest request to watch models: as many ids as may be, and a token that the server takes as one at all.
const MAX_WATCH_REQUEST: usize = 2 << 20;

/// Largest request about a session: an id, or a name.
const MAX_SESSION_REQUEST: usize = 4 << 10;

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
    let at_most = |bytes: usize| bytes.min(settings.max_request_bytes);
    let open = Arc::new(open);
    let open = |bytes: usize| {
        GrpcInferenceServiceServer::from_arc(open.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(bytes)
    };
    let open = LargeRequests {
        methods: LARGE,
        large: open(settings.max_request_bytes),
        small: open(at_most(MAX_SPEC_REQUEST)),
    };
    let catalog = CatalogServiceServer::new(catalog)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(at_most(MAX_SPEC_REQUEST));
    let sessions =
        SessionServiceServer::new(sessions).max_decoding_message_size(at_most(MAX_SESSION_REQUEST));
    let models = WatchRoute::watch(
        models,
        at_most(MAX_SPEC_REQUEST),
        at_most(MAX_WATCH_REQUEST),
    );
    let routes = Routes::new(models)
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
