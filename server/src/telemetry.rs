//! Traces, metrics and logs of the server.
//!
//! Invariant: one meter provider feeds both `/metrics` and, where an endpoint is set, OTLP; a trace that
//! a caller began is carried on to the workers.

pub mod cache;
mod instruments;
mod labels;
mod log;
pub mod model_metrics;
mod propagation;
pub mod rpc;
mod source_paths;
mod views;

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

pub use log::{flush as flush_log, write_last as write_last_line};
use opentelemetry::{
    metrics::{Meter, MeterProvider},
    trace::TracerProvider,
};
use opentelemetry_otlp::{ExporterBuildError, MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    metrics::SdkMeterProvider,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
pub use propagation::{extract, propagate};
pub use source_paths::shorten;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::Targets,
    layer::SubscriberExt,
    registry::LookupSpan,
    util::{SubscriberInitExt, TryInitError},
};

use crate::{
    config::{LogFormat, Settings},
    version::VERSION,
};

/// Name of the server in telemetry, unless the environment variable OTEL_SERVICE_NAME says another.
const SERVICE_NAME: &str = "hangar";
/// Only our own spans are exported: the exporter's own would make for ever more.
const OWN_TARGETS: &str = "hangar";
/// Time that an export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Telemetry of a process. Call [`Telemetry::shutdown`] before the process ends.
#[derive(Debug)]
pub struct Telemetry {
    registry: prometheus::Registry,
    meters: SdkMeterProvider,
    tracers: Option<SdkTracerProvider>,
}

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter is not one.
    #[error("log: not a filter: {0}: write it like info,hangar_server=debug")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The exporter for the collector cannot be made.
    #[error("otlp_endpoint: {0}")]
    Exporter(#[from] ExporterBuildError),
    /// The metrics cannot be registered.
    #[error("metrics cannot be collected: {0}")]
    Registry(#[from] opentelemetry_sdk::error::OTelSdkError),
    /// The log's thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] io::Error),
    /// The process has a subscriber already.
    #[error("the log is set up already: {0}")]
    Subscriber(#[from] TryInitError),
}

impl Telemetry {
    /// Sets up the log on standard error, panics included, traces, metrics and the propagation of W3C trace
    /// context for the whole process. Must be called within a Tokio runtime, once.
    ///
    /// # Errors
    /// [`TelemetryError`].
    pub fn init(settings: &Settings) -> Result<Self, TelemetryError> {
        let telemetry = Self::without_log(settings)?;
        log::start()?;
        let filter = EnvFilter::try_new(&settings.log)?;
        tracing_subscriber::registry()
            .with(lines(settings.log_format).with_filter(filter))
            .with(telemetry.traces())
            .try_init()?;
        let notices = lines(settings.log_format).with_filter(LevelFilter::WARN);
        log::set_notices(tracing_subscriber::registry().with(notices).into());
        std::panic::set_hook(Box::new(source_paths::log_panic));
        Ok(telemetry)
    }

    /// Traces and metrics without a log: spans go nowhere until a subscriber is set. For several
    /// servers in one process. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`TelemetryError`].
    pub fn without_log(settings: &Settings) -> Result<Self, TelemetryError> {
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        let registry = prometheus::Registry::new();
        let scraped = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()?;
        let mut meters = SdkMeterProvider::builder()
            .with_resource(resource())
            .with_reader(scraped)
            .with_view(views::limit_series(settings.max_models));
        let mut tracers = None;
        if let Some(endpoint) = &settings.otlp_endpoint {
            let metrics = MetricExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .with_timeout(EXPORT_TIMEOUT)
                .build()?;
            let spans = SpanExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .with_timeout(EXPORT_TIMEOUT)
                .build()?;
            meters = meters.with_periodic_exporter(metrics);
            let share = Sampler::TraceIdRatioBased(settings.trace_sample_ratio);
            let provider = SdkTracerProvider::builder()
                .with_resource(resource())
                .with_sampler(Sampler::ParentBased(Box::new(share)))
                .with_batch_exporter(spans)
                .build();
            tracers = Some(provider);
        }
        Ok(Self {
            registry,
            meters: meters.build(),
            tracers,
        })
    }

    /// Layer that sends our own spans to the collector. `None` without one.
    pub fn traces<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        self.tracers.as_ref().map(|tracers| {
            tracing_opentelemetry::layer()
                .with_tracer(tracers.tracer(SERVICE_NAME))
                .with_filter(Targets::new().with_target(OWN_TARGETS, LevelFilter::INFO))
        })
    }

    /// Makes instruments.
    pub fn meter(&self) -> Meter {
        self.meters.meter(SERVICE_NAME)
    }

    /// Where all metrics can be gathered for `/metrics`.
    pub fn registry(&self) -> prometheus::Registry {
        self.registry.clone()
    }

    /// Sends what is still to be sent and ends all exporters, in at most `limit`.
    pub async fn shutdown(&self, limit: Duration) {
        let (meters, tracers) = (self.meters.clone(), self.tracers.clone());
        let flush = tokio::task::spawn_blocking(move || {
            let traces = tracers.map(|tracers| tracers.shutdown_with_timeout(limit));
            let metrics = meters.shutdown_with_timeout(limit);
            traces
                .into_iter()
                .chain([metrics])
                .collect::<Result<(), _>>()
        });
        match tokio::time::timeout(limit, flush).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last telemetry could not be sent"),
            Ok(Err(error)) => tracing::error!(%error, "telemetry did not end well"),
            Err(_) => tracing::warn!("the last telemetry could not be sent in time"),
        }
    }
}

/// Writes the log's lines to standard error.
fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(|| log::Log);
    match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    }
}

fn resource() -> Resource {
    let resource = Resource::builder().with_attributes([
        opentelemetry::KeyValue::new("service.version", VERSION),
        opentelemetry::KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string()),
    ]);
    match std::env::var_os("OTEL_SERVICE_NAME") {
        Some(_) => resource.build(),
        None => resource.with_service_name(SERVICE_NAME).build(),
    }
}

#[cfg(test)]
mod page;
#[cfg(test)]
mod tests;
