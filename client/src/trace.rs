//! Carries the W3C trace context of the current span to the server.
//!
//! Without a global OpenTelemetry propagator this adds nothing to a request.

use std::str::FromStr;

use opentelemetry::{Context, global, propagation::Injector, trace::TraceContextExt};
use tonic::{
    Request, Status,
    metadata::{MetadataKey, MetadataMap, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tracing::{Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::error::Error;

/// The channel that all calls of a [`Client`](crate::Client) go over.
pub type Transport = InterceptedService<Channel, TraceContext>;

/// Adds the current trace context (`traceparent`, `tracestate`) to a request's metadata.
///
/// The context is that of the current `tracing` span where a `tracing-opentelemetry` layer is
/// installed, else OpenTelemetry's own current context.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceContext;

struct MetadataInjector<'a>(&'a mut MetadataMap);

/// A span for a call of `method` ("hangar.v1.ModelService/LoadModel"), with the names of
/// OpenTelemetry's semantic conventions for RPC.
pub(crate) fn client_span(method: &'static str) -> Span {
    tracing::info_span!(
        "rpc",
        otel.name = method,
        otel.kind = "client",
        otel.status_code = field::Empty,
        rpc.system.name = "grpc",
        rpc.method = method,
        rpc.response.status_code = field::Empty,
        error.type = field::Empty,
    )
}

/// Notes on `span` how its call ended.
pub(crate) fn record(span: &Span, error: Option<&Error>) {
    let Some(error) = error else {
        span.record("rpc.response.status_code", "OK");
        return;
    };
    let code = error.code_name();
    span.record("rpc.response.status_code", code);
    span.record("error.type", code);
    span.record("otel.status_code", "ERROR");
}

fn current_context() -> Context {
    let context = Span::current().context();
    if context.span().span_context().is_valid() {
        context
    } else {
        Context::current()
    }
}

impl Interceptor for TraceContext {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let context = current_context();
        global::get_text_map_propagator(|propagator| {
            propagator.inject_context(&context, &mut MetadataInjector(request.metadata_mut()));
        });
        Ok(request)
    }
}

impl Injector for MetadataInjector<'_> {
    fn set(&mut self, key: &str, value: String) {
        // A propagator that makes names or values that HTTP forbids is left out rather than failing the call.
        if let (Ok(key), Ok(value)) = (MetadataKey::from_str(key), MetadataValue::try_from(value)) {
            self.0.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::{
        propagation::TextMapPropagator,
        trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState},
    };
    use opentelemetry_sdk::propagation::TraceContextPropagator;

    use super::*;

    #[bounded::test]
    fn the_context_becomes_a_traceparent() {
        let context = Context::new().with_remote_span_context(SpanContext::new(
            TraceId::from(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c),
            SpanId::from(0xb7ad_6b71_6920_3331),
            TraceFlags::SAMPLED,
            true,
            TraceState::default(),
        ));
        let mut metadata = MetadataMap::new();
        TraceContextPropagator::new()
            .inject_context(&context, &mut MetadataInjector(&mut metadata));
        let traceparent = metadata
            .get("traceparent")
            .and_then(|value| value.to_str().ok());
        assert_eq!(
            traceparent,
            Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        );
    }

    #[bounded::test]
    fn what_http_forbids_is_left_out() {
        let mut metadata = MetadataMap::new();
        MetadataInjector(&mut metadata).set("not a name", "value".to_owned());
        MetadataInjector(&mut metadata).set("name", "line\nbreak".to_owned());
        assert!(metadata.is_empty());
    }
}
