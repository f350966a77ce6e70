//! W3C trace context in the headers of calls.

use http::HeaderMap;
use opentelemetry::{
    Context,
    global::get_text_map_propagator,
    propagation::{Extractor, Injector},
};
use tonic::metadata::{MetadataKey, MetadataMap};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

struct Headers<'a>(&'a HeaderMap);

struct Metadata<'a>(&'a mut MetadataMap);

/// Puts the trace context of the current span into the metadata of a call to another process.
///
/// Without traces there is none, and nothing is put.
pub fn propagate(metadata: &mut MetadataMap) {
    let context = Span::current().context();
    get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut Metadata(metadata));
    });
}

/// The trace context that a caller sent; an empty one if it sent none.
pub fn extract(headers: &HeaderMap) -> Context {
    get_text_map_propagator(|propagator| {
        propagator.extract_with_context(&Context::new(), &Headers(headers))
    })
}

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|key| key.as_str()).collect()
    }
}

impl Injector for Metadata<'_> {
    fn set(&mut self, key: &str, value: String) {
        // What cannot stand in a header is left out: a trace is not worth a failed call.
        if let (Ok(key), Ok(value)) = (MetadataKey::from_bytes(key.as_bytes()), value.parse()) {
            self.0.insert(key, value);
        }
    }
}
