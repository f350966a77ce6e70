//! The ops port: metrics for Prometheus, and health over HTTP and gRPC, with reflection of that.
//!
//! Invariant: nothing here needs more than what is in memory, so that it answers while the main port is
//! busy or shutting down.

use std::sync::Arc;

use axum::{
    Router,
    middleware::from_fn,
    response::{IntoResponse, Response},
    routing::get,
};
use hangar_client::status::StatusService;
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_TYPE, HeaderMap},
};
use prometheus::{Registry, TextEncoder};
use tonic::{Status, server::NamedService};
use tonic_health::pb::health_server::HealthServer;
use tower::{ServiceBuilder, layer::layer_fn};
use tower_http::catch_panic::CatchPanicLayer;

use crate::rpc::{
    completed,
    deadline::DeadlineLayer,
    health::{HealthService, HealthSource, LIVENESS, READINESS, STARTUP},
    metadata_limit::{is_grpc, limit_metadata},
    reflection::{self, ReflectedPort},
    unwinding::{UnwindBody, panicked},
};

/// Routes of the ops port.
///
/// `GET /metrics` gives `registry` in Prometheus' text format. `GET /livez`, `/readyz` and `/startupz`
/// give 200 or 503 for the services `liveness`, `readiness` and `startup` of `source`. The gRPC health
/// service is `health`; with `reflection` it is described, and nothing that this port does not offer. Everything
/// else is 404, or UNIMPLEMENTED for a gRPC call.
pub fn router<S: HealthSource>(
    registry: Registry,
    source: Arc<S>,
    health: HealthServer<HealthService<S>>,
    reflection: bool,
) -> Router {
    let probe = |service: &'static str| {
        let source = source.clone();
        get(async move || response(source.serving(service)))
    };
    let calls = ServiceBuilder::new()
        .map_response(|response: http::Response<_>| response.map(UnwindBody::new))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(DeadlineLayer);
    let router = Router::new()
        .route("/metrics", get(async move || metrics(&registry)))
        .route("/livez", probe(LIVENESS))
        .route("/readyz", probe(READINESS))
        .route("/startupz", probe(STARTUP))
        .route_service(&path(&health), calls.service(health))
        .fallback(unknown);
    let router = if reflection {
        let (v1, v1alpha) = (
            reflection::v1(ReflectedPort::Ops),
            reflection::v1alpha(ReflectedPort::Ops),
        );
        router
            .route_service(&path(&v1), calls.service(v1))
            .route_service(&path(&v1alpha), calls.service(v1alpha))
    } else {
        router
    };
    let router = router.layer(from_fn(limit_metadata));
    router.layer(layer_fn(|inner| StatusService::finishing(inner, completed)))
}

/// The path of a gRPC service's methods.
fn path<S: NamedService>(_: &S) -> String {
    format!("/{}/{{*method}}", S::NAME)
}

fn response(serving: Option<bool>) -> Response {
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
    if is_grpc(&headers) {
        Status::unimplemented("the ops port offers health only; the API is on the main port")
            .into_http()
    } else {
        (StatusCode::NOT_FOUND, "not found\n").into_response()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{StreamExt as _, stream};
    use http::{Method, Request};
    use http_body_util::BodyExt;
    use prometheus::IntCounter;
    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;
    use tonic::Code;
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tower::ServiceExt;

    use super::*;

    /// Alive and started, but not ready.
    struct Starting(watch::Sender<u64>);

    impl HealthSource for Starting {
        fn serving(&self, service: &str) -> Option<bool> {
            match service {
                LIVENESS | STARTUP => Some(true),
                READINESS => Some(false),
                _ => None,
            }
        }

        fn names(&self) -> (Vec<String>, bool) {
            (Vec::new(), false)
        }

        fn changes(&self) -> watch::Receiver<u64> {
            self.0.subscribe()
        }
    }

    fn ops() -> Router {
        let registry = Registry::new();
        let counter = IntCounter::new("visits_total", "Visits").unwrap();
        counter.inc();
        registry.register(Box::new(counter)).unwrap();
        let source = Arc::new(Starting(watch::Sender::new(0)));
        let health = HealthService::new(source.clone(), CancellationToken::new(), 8);
        router(registry, source, health.into_server(), true)
    }

    async fn get(path: &str) -> (StatusCode, HeaderMap, String) {
        request(Method::GET, path, "").await
    }

    async fn request(method: Method, path: &str, form: &str) -> (StatusCode, HeaderMap, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(CONTENT_TYPE, form)
            .body(axum::body::Body::empty())
            .unwrap();
        let (parts, body) = ops().oneshot(request).await.unwrap().into_parts();
        let text = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(text.to_vec()).unwrap();
        (parts.status, parts.headers, text)
    }

    #[bounded::test]
    async fn probes_report_health_over_http() {
        assert_eq!(get("/livez").await.0, StatusCode::OK);
        assert_eq!(get("/startupz").await.0, StatusCode::OK);
        assert_eq!(get("/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(get("/").await.0, StatusCode::NOT_FOUND);
    }

    #[bounded::test]
    async fn metrics_are_shown_as_text() {
        let (status, headers, text) = get("/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(
            headers[CONTENT_TYPE]
                .to_str()
                .unwrap()
                .starts_with("text/plain; version=0.0.4")
        );
        assert!(text.contains("visits_total 1"), "{text}");
        let (status, ..) = request(Method::POST, "/metrics", "").await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    }

    #[bounded::test]
    async fn health_is_offered_over_grpc() {
        let mut client = HealthClient::new(ops());
        let ask = |service: &str| HealthCheckRequest {
            service: service.to_owned(),
        };
        let alive = client.check(ask(LIVENESS)).await.unwrap().into_inner();
        assert_eq!(alive.status(), ServingStatus::Serving);
        let unknown = client.check(ask("model/x")).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
    }

    #[bounded::test]
    async fn reflection_ends_at_its_deadline() {
        let mut client = ServerReflectionClient::new(ops());
        // The requests never end.
        let mut request = tonic::Request::new(stream::pending());
        request.set_timeout(Duration::from_millis(50));
        let responses = client.server_reflection_info(request).await.unwrap();
        let end = responses.into_inner().next().await.unwrap().unwrap_err();
        assert_eq!(end.code(), Code::DeadlineExceeded);
    }

    #[bounded::test]
    async fn other_grpc_calls_are_unimplemented() {
        let (status, headers, _) = request(Method::POST, "/a.B/C", "application/grpc+proto").await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers["grpc-status"], "12");
    }
}
