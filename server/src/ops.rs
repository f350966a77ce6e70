//! The ops port: metrics for Prometheus, and health over HTTP and gRPC.
//!
//! Invariant: nothing here needs more than what is in memory, so that it answers while the main port is
//! busy or shutting down.

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{HeaderValue, StatusCode};
use prometheus::{Registry, TextEncoder};
use tonic::Status;
use tonic::server::NamedService;
use tonic_health::pb::health_server::HealthServer;
use tower::Layer;

use crate::rpc::deadline::DeadlineLayer;
use crate::rpc::health::{HealthService, HealthSource, LIVENESS, READINESS, STARTUP};

/// Routes of the ops port.
///
/// `GET /metrics` gives `registry` in Prometheus' text format. `GET /livez`, `/readyz` and `/startupz`
/// give 200 or 503 for the services `liveness`, `readiness` and `startup` of `source`. The gRPC health
/// service is `health`. Everything else is 404, or UNIMPLEMENTED for a gRPC call.
pub fn router<S: HealthSource>(
    registry: Registry,
    source: Arc<S>,
    health: HealthServer<HealthService<S>>,
) -> Router {
    let probe = |service: &'static str| {
        let source = source.clone();
        get(async move || answer(source.serving(service)))
    };
    let grpc_health = format!("/{}/{{*method}}", HealthServer::<HealthService<S>>::NAME);
    Router::new()
        .route("/metrics", get(async move || metrics(&registry)))
        .route("/livez", probe(LIVENESS))
        .route("/readyz", probe(READINESS))
        .route("/startupz", probe(STARTUP))
        .route_service(&grpc_health, DeadlineLayer.layer(health))
        .fallback(unknown)
}

fn answer(serving: Option<bool>) -> Response {
    match serving {
        Some(true) => (StatusCode::OK, "ok\n").into_response(),
        Some(false) => (StatusCode::SERVICE_UNAVAILABLE, "not serving\n").into_response(),
        None => (StatusCode::NOT_FOUND, "no such service\n").into_response(),
    }
}

fn metrics(registry: &Registry) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => {
            let form = HeaderValue::from_static(prometheus::TEXT_FORMAT);
            ([(CONTENT_TYPE, form)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn unknown(headers: HeaderMap) -> Response {
    let grpc = headers
        .get(CONTENT_TYPE)
        .is_some_and(|form| form.as_bytes().starts_with(b"application/grpc"));
    if grpc {
        Status::unimplemented("the ops port offers health only").into_http()
    } else {
        (StatusCode::NOT_FOUND, "not found\n").into_response()
    }
}
