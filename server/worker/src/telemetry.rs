//! What the worker reports about itself: one line of JSON an event on standard error, which the server
//! logs, and traces over OTLP when an endpoint is configured.

use std::{
    panic::PanicHookInfo,
    sync::{Mutex, PoisonError},
};

use hangar_worker_protocol::v1::WorkerConfig;
use opentelemetry::{KeyValue, propagation::Extractor, trace::TracerProvider as _};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tonic::metadata::{KeyRef, MetadataMap};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// What is logged when the configuration does not say.
const DEFAULT_FILTER: &str = "info";

/// The message of the last panic of a thread.
static LAST_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Telemetry that was set up, to be flushed at the end.
pub(crate) struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sets up logs and, with an endpoint, traces. Called once, within the runtime. An endpoint that
    /// cannot be used is logged and not a reason to fail.
    pub(crate) fn start(config: &WorkerConfig) -> Self {
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        let filter = if config.log_filter.is_empty() {
            DEFAULT_FILTER
        } else {
            &config.log_filter
        };
        let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
        let (provider, problem) = match provider(config) {
            Ok(provider) => (provider, None),
            Err(problem) => (None, Some(problem)),
        };
        let traces = provider.as_ref().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("hangar-worker"))
                .with_location(false)
                .with_threads(false)
                .with_target(false)
                .with_tracked_inactivity(false)
        });
        tracing_subscriber::registry()
            .with(filter)
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .with_current_span(false)
                    .with_span_list(false)
                    .with_writer(std::io::stderr),
            )
            .with(traces)
            .init();
        std::panic::set_hook(Box::new(log_panic));
        if let Some(problem) = problem {
            tracing::warn!(error = %problem, "traces are not exported");
        }
        Self { provider }
    }

    /// Sends what is still held back. Blocks until it is sent or the exporter gives up.
    pub(crate) fn flush(&self) {
        if let Some(provider) = &self.provider
            && let Err(e) = provider.force_flush()
        {
            tracing::warn!(error = %e, "traces could not be flushed");
        }
    }
}

/// Makes the span that the caller names in its metadata the parent of `span`.
pub(crate) fn adopt(span: &Span, metadata: &MetadataMap) {
    let parent = opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.extract(&MetadataCarrier(metadata))
    });
    // Fails only where no traces are exported, and then there is nothing to adopt.
    let _ = span.set_parent(parent);
}

/// The message of the last panic of a thread, if there was one.
pub(crate) fn last_panic() -> Option<String> {
    let last = LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner);
    last.clone()
}

struct MetadataCarrier<'a>(&'a MetadataMap);

impl Extractor for MetadataCarrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0
            .keys()
            .filter_map(|key| match key {
                KeyRef::Ascii(key) => Some(key.as_str()),
                KeyRef::Binary(_) => None,
            })
            .collect()
    }
}

fn provider(
    config: &WorkerConfig,
) -> Result<Option<SdkTracerProvider>, opentelemetry_otlp::ExporterBuildError> {
    if config.otlp_endpoint.is_empty() {
        return Ok(None);
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(&config.otlp_endpoint)
        .build()?;
    let resource = Resource::builder()
        .with_service_name("hangar-worker")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("hangar.model_id", config.model_id.clone()))
        .build();
    let ratio = Sampler::TraceIdRatioBased(config.trace_sample_ratio.clamp(0.0, 1.0));
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(ratio)))
        .with_resource(resource)
        .build();
    Ok(Some(provider))
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("no message");
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    tracing::error!(thread, location, panic = message, "a thread panicked");
    *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.to_owned());
}
