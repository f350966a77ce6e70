//! The page of metrics lists all of them, as they are defined and as they are scraped.

use std::{collections::BTreeSet, fmt::Write, sync::Arc, time::Duration};

use axum::body::Body;
use http::{HeaderMap, Request, Response};
use prometheus::proto::{MetricFamily, MetricType};
use tower::{Layer as _, ServiceExt, service_fn};

use super::{
    Telemetry,
    cache::observe_cache,
    instruments::{ALL, Kind, Metric},
    model_metrics::{MemorySample, ModelMetrics, ModelSample, RequestSample, observe_models},
    rpc::RpcLayer,
    tests,
};
use crate::{
    model::{LoadOutcomeKind, LoadPhase, Operation, Pace, StateKind, SuspendCause},
    prepared::PreparedCache,
};

/// Records all that can be recorded, with all labels that it can have.
async fn record_everything(telemetry: &Telemetry, directory: &std::path::Path) {
    let meter = telemetry.meter();
    let seconds = Duration::from_secs;
    let metrics = ModelMetrics::new(&meter);
    metrics.load_ended(
        "m",
        Some(LoadPhase::Loading),
        LoadOutcomeKind::Succeeded,
        seconds(1),
    );
    metrics.unloaded("m", seconds(1));
    metrics.evicted("m", SuspendCause::Evicted);
    drop(metrics.watcher());
    metrics.request_ended(&RequestSample {
        model: "m",
        operation: Operation::Chat,
        duration: seconds(1),
        time_to_first_token: Some(seconds(1)),
        time_per_output_token: Some(seconds(1)),
        error: Some("WORKER_DIED"),
    });
    let sample = ModelSample {
        model: "m".to_owned(),
        state: StateKind::Ready,
        memory: Some(MemorySample { host: 1, device: 1 }),
        kv_blocks: Some((1, 2)),
        in_flight: 1,
        queued: 1,
        restarts: 1,
        prompt_tokens: 1,
        completion_tokens: 1,
        pace: Pace {
            prompt_tokens_per_second: Some(1.0),
            generated_tokens_per_second: Some(1.0),
        },
    };
    observe_models(&meter, Arc::new(move || vec![sample.clone()]));
    let cache = PreparedCache::open(directory.to_path_buf(), 1).unwrap();
    observe_cache(&meter, &cache);
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", "14".parse().unwrap());
    let inner = service_fn(move |_: Request<()>| {
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = headers.clone();
        std::future::ready(Ok::<_, std::convert::Infallible>(response))
    });
    let calls = RpcLayer::new(&meter).layer(inner);
    calls.oneshot(Request::new(())).await.unwrap();
}

fn prometheus_name(name: &str) -> String {
    name.replace(['.', '-'], "_")
}

/// The family that a metric is scraped as: its name with or without its unit and `_total` at the end.
fn family<'a>(metric: &Metric, families: &'a [MetricFamily]) -> &'a MetricFamily {
    let name = prometheus_name(metric.name);
    let ends = ["", "_total", "_seconds", "_bytes", "_per_second"];
    let found = families.iter().find(|family| {
        let rest = family.name().strip_prefix(&name);
        rest.is_some_and(|rest| ends.contains(&rest))
    });
    found.unwrap_or_else(|| {
        panic!(
            "{} is not scraped: `record_everything` leaves it out",
            metric.name
        )
    })
}

fn labels(family: &MetricFamily) -> BTreeSet<String> {
    let series = family.get_metric().iter();
    let labels = series.flat_map(|series| series.get_label().iter());
    labels.map(|label| label.name().to_owned()).collect()
}

fn row(metric: &Metric, family: &MetricFamily) -> String {
    let kind = match family.get_field_type() {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        other => panic!("{}: {other:?}", metric.name),
    };
    let labels: Vec<_> = metric
        .labels
        .iter()
        .map(|label| format!("`{}`", prometheus_name(label.key)))
        .collect();
    let labels = labels.join(", ");
    let (name, unit, words) = (family.name(), metric.unit, metric.description);
    format!("| `{name}` | {kind} | {unit} | {labels} | {words} |")
}

#[bounded::test]
async fn the_page_of_metrics_has_every_metric_as_it_is_scraped() {
    let telemetry = tests::telemetry();
    let directory = tempfile::tempdir().unwrap();
    record_everything(&telemetry, directory.path()).await;
    let mut families = telemetry.registry().gather();
    families.retain(|family| family.name() != "target_info");
    let mut page =
        "| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n".to_owned();
    for metric in ALL {
        let family = family(metric, &families);
        let defined: BTreeSet<_> = metric
            .labels
            .iter()
            .map(|label| prometheus_name(label.key))
            .collect();
        assert_eq!(labels(family), defined, "labels of {}", metric.name);
        let is_histogram = family.get_field_type() == MetricType::HISTOGRAM;
        assert_eq!(
            is_histogram,
            matches!(metric.kind, Kind::Histogram(_)),
            "{}",
            metric.name
        );
        writeln!(page, "{}", row(metric, family)).unwrap();
    }
    assert_eq!(families.len(), ALL.len());
    hangar_codegen::pages::check("docs/metrics.md", "metrics", &page).unwrap();
}
