//! Traces of the command over OTLP, when an endpoint is set; otherwise nothing.

use std::{env, time::Duration};

use opentelemetry::{global, trace::TracerProvider};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// Spans that are recorded.
const FILTER: &str = "hangarctl=info,hangar_client=info";

/// Time for sending what is left at the end.
const FLUSH: Duration = Duration::from_secs(5);

/// The export of traces. Call [`stop`](Self::stop) before the process ends.
pub(crate) struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts the export if `OTEL_EXPORTER_OTLP_ENDPOINT` or its variant for traces is set. What is
    /// wrong with the endpoint is told on standard error and hinders nothing.
    pub(crate) fn start() -> Self {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        if !is_set("OTEL_EXPORTER_OTLP_ENDPOINT") && !is_set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
            return Self { provider: None };
        }
        let exporter = match SpanExporter::builder().with_tonic().build() {
            Ok(exporter) => exporter,
            Err(error) => {
                eprintln!("warning: no traces are sent: {error}");
                return Self { provider: None };
            }
        };
        let resource = Resource::builder()
            .with_service_name("hangarctl")
            .with_attribute(opentelemetry::KeyValue::new(
                "service.version",
                env!("CARGO_PKG_VERSION"),
            ))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        global::set_text_map_propagator(TraceContextPropagator::new());
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("hangarctl"));
        // Only fails where a subscriber was set before, and then that one is to stay.
        let _ = tracing_subscriber::registry()
            .with(layer.with_filter(EnvFilter::new(FILTER)))
            .try_init();
        Self {
            provider: Some(provider),
        }
    }

    /// Sends what is left.
    pub(crate) async fn stop(self) {
        let Some(provider) = self.provider else {
            return;
        };
        // It blocks, and the exporter needs the runtime meanwhile.
        let flushed =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH)).await;
        if let Ok(Err(error)) = flushed {
            eprintln!("warning: not all traces were sent: {error}");
        }
    }
}
