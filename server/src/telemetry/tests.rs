//! Tests of what is measured, of what `/metrics` shows of it, and of how traces are carried on.

use std::{
    convert::Infallible,
    future::{pending, ready},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use opentelemetry::trace::TraceContextExt;
use prometheus::TextEncoder;
use strum::VariantArray;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tower::{Layer as _, ServiceExt, service_fn};
use tracing::info_span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{
    labels::{RPC_METHOD, Values},
    model_metrics::{MemorySample, ModelMetrics, ModelSample, RequestSample, observe_models},
    rpc::RpcLayer,
    *,
};
use crate::{
    config::{Layer as SettingsLayer, SettingsArguments},
    model::{LoadOutcomeKind, LoadPhase, Operation, Pace, StateKind},
    net::{end_stream_after, limited},
    supervisor::Supervisor,
};

const GET_INFO: &str = "hangar.v1.ModelService/GetInfo";
const CALLS: &str = "rpc_server_call_duration_seconds_count";

pub(super) fn settings() -> Settings {
    let layer = SettingsLayer {
        data_dir: Some(std::env::temp_dir()),
        ..SettingsLayer::default()
    };
    Settings::load(SettingsArguments {
        config: None,
        layer,
    })
    .unwrap()
}

pub(super) fn telemetry() -> Telemetry {
    Telemetry::without_log(&settings()).unwrap()
}

/// Value of the one series of `name` that has all these labels.
fn value(telemetry: &Telemetry, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let text = TextEncoder::new()
        .encode_to_string(&telemetry.registry().gather())
        .unwrap();
    let mut found = text.lines().filter(|line| {
        let series = line.strip_prefix(name);
        let has = |(key, value): &(&str, &str)| line.contains(&format!("{key}=\"{value}\""));
        series.is_some_and(|rest| rest.starts_with(['{', ' '])) && labels.iter().all(has)
    });
    let line = found.next()?;
    assert_eq!(found.next(), None, "more than one series:\n{text}");
    line.rsplit(' ').next()?.parse().ok()
}

fn status(code: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", code.parse().unwrap());
    headers
}

fn request(path: &str) -> Request<()> {
    Request::builder().uri(format!("/{path}")).body(()).unwrap()
}

fn calls(telemetry: &Telemetry, method: &str, code: &str) -> f64 {
    let labels = [
        ("rpc_method", method),
        ("rpc_response_status_code", code),
        ("rpc_system_name", "grpc"),
    ];
    value(telemetry, CALLS, &labels).unwrap_or(0.0)
}

/// Calls a service that answers so, and reads the answer to its end.
async fn call(layer: &RpcLayer, path: &str, answer: Response<Body>) {
    let mut answer = Some(answer);
    let inner = service_fn(move |_| ready(Ok::<_, Infallible>(answer.take().unwrap())));
    let response = layer.layer(inner).oneshot(request(path)).await.unwrap();
    let _ = response.into_body().collect().await;
}

fn stream_ending_with(code: &'static str) -> Response<Body> {
    let frames = [
        Frame::data(Bytes::from_static(b"x")),
        Frame::trailers(status(code)),
    ];
    let frames = futures::stream::iter(frames.map(Ok::<_, Infallible>));
    Response::new(Body::new(StreamBody::new(frames)))
}

#[bounded::test]
async fn a_call_is_recorded_with_the_status_in_its_trailers() {
    let telemetry = telemetry();
    let layer = RpcLayer::new(&telemetry.meter());
    call(&layer, GET_INFO, stream_ending_with("0")).await;
    call(&layer, GET_INFO, stream_ending_with("0")).await;
    call(&layer, GET_INFO, stream_ending_with("14")).await;
    assert_eq!(calls(&telemetry, GET_INFO, "OK"), 2.0);
    assert_eq!(calls(&telemetry, GET_INFO, "UNAVAILABLE"), 1.0);
    let failed = [("error_type", "UNAVAILABLE")];
    assert_eq!(value(&telemetry, CALLS, &failed), Some(1.0));
}

#[bounded::test]
async fn a_call_is_recorded_with_the_status_in_its_headers() {
    let telemetry = telemetry();
    let layer = RpcLayer::new(&telemetry.meter());
    let mut refusal = Response::new(Body::empty());
    *refusal.headers_mut() = status("5");
    call(&layer, GET_INFO, refusal).await;
    assert_eq!(calls(&telemetry, GET_INFO, "NOT_FOUND"), 1.0);
    assert_eq!(
        value(&telemetry, CALLS, &[("error_type", "NOT_FOUND")]),
        None
    );
}

#[bounded::test]
async fn a_stream_that_breaks_off_is_unknown() {
    let telemetry = telemetry();
    let layer = RpcLayer::new(&telemetry.meter());
    let frames = futures::stream::iter([Ok(Frame::data(Bytes::new())), Err("broken")]);
    call(
        &layer,
        GET_INFO,
        Response::new(Body::new(StreamBody::new(frames))),
    )
    .await;
    assert_eq!(calls(&telemetry, GET_INFO, "UNKNOWN"), 1.0);
}

#[bounded::test]
async fn a_call_dropped_before_its_end_is_cancelled() {
    let telemetry = telemetry();
    let layer = RpcLayer::new(&telemetry.meter());
    let inner = service_fn(|_: Request<()>| pending::<Result<Response<Body>, Infallible>>());
    let mut waiting = Box::pin(layer.layer(inner).oneshot(request(GET_INFO)));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    drop(waiting);
    assert_eq!(calls(&telemetry, GET_INFO, "CANCELLED"), 1.0);

    let inner = service_fn(|_| ready(Ok::<_, Infallible>(stream_ending_with("0"))));
    let response = layer.layer(inner).oneshot(request(GET_INFO)).await.unwrap();
    let mut body = response.into_body();
    assert!(body.frame().await.unwrap().unwrap().is_data());
    drop(body);
    assert_eq!(calls(&telemetry, GET_INFO, "CANCELLED"), 2.0);
    assert_eq!(calls(&telemetry, GET_INFO, "OK"), 0.0);
}

#[bounded::test]
async fn a_call_that_is_reset_after_its_deadline_is_not_cancelled() {
    let telemetry = telemetry();
    let layer = RpcLayer::new(&telemetry.meter());
    let inner = service_fn(|_| {
        end_stream_after(Instant::now(), Duration::ZERO);
        ready(Ok::<_, Infallible>(stream_ending_with("0")))
    });
    let unread = async {
        let _response = layer.layer(inner).oneshot(request(GET_INFO)).await.unwrap();
        pending().await
    };
    limited(unread).await;
    assert_eq!(calls(&telemetry, GET_INFO, "DEADLINE_EXCEEDED"), 1.0);
}

#[bounded::test]
async fn made_up_methods_share_one_series() {
    let telemetry = telemetry();
    let layer = RpcLayer::new(&telemetry.meter());
    for path in [
        "a/b",
        "hangar.v1.ModelService/Nothing",
        "hangar.v1.ModelService",
        "",
    ] {
        call(&layer, path, stream_ending_with("12")).await;
    }
    assert_eq!(calls(&telemetry, "_OTHER", "UNIMPLEMENTED"), 4.0);
    call(
        &layer,
        "grpc.health.v1.Health/Watch",
        stream_ending_with("0"),
    )
    .await;
    assert_eq!(calls(&telemetry, "grpc.health.v1.Health/Watch", "OK"), 1.0);
}

fn sample(model: &str, state: StateKind) -> ModelSample {
    let loaded = state == StateKind::Ready;
    ModelSample {
        model: model.to_owned(),
        state,
        memory: loaded.then_some(MemorySample {
            host: 4096,
            device: 1,
        }),
        kv_blocks: loaded.then_some((8, 9)),
        in_flight: 3,
        queued: 4,
        restarts: 5,
        prompt_tokens: 6,
        completion_tokens: 7,
        pace: Pace {
            prompt_tokens_per_second: Some(0.5),
            generated_tokens_per_second: None,
        },
    }
}

#[bounded::test]
async fn models_are_shown_as_they_are_and_vanish_with_their_models() {
    let telemetry = telemetry();
    let gone = Arc::new(AtomicBool::new(false));
    let snapshot = {
        let gone = gone.clone();
        move || match gone.load(Ordering::SeqCst) {
            false => vec![
                sample("a/b", StateKind::Ready),
                sample("c", StateKind::Failed),
            ],
            true => vec![sample("c", StateKind::Failed)],
        }
    };
    observe_models(&telemetry.meter(), Arc::new(snapshot));
    let of = |name: &str, labels: &[(&str, &str)]| value(&telemetry, name, labels);
    let (a, c) = (("model", "a/b"), ("model", "c"));
    let (ready, failed) = (("state", "ready"), ("state", "failed"));
    let (host, device) = (("type", "host"), ("type", "device"));
    let (prompt, completion) = (("type", "prompt"), ("type", "completion"));
    for (name, labels, expected) in [
        ("hangar_model_state", &[a, ready] as &[_], Some(1.0)),
        ("hangar_model_state", &[a, failed], Some(0.0)),
        ("hangar_model_state", &[c, failed], Some(1.0)),
        ("hangar_model_memory_bytes", &[a, host], Some(4096.0)),
        ("hangar_model_memory_bytes", &[a, device], Some(1.0)),
        ("hangar_model_memory_bytes", &[c, host], None),
        ("hangar_model_kv_blocks_used", &[a], Some(8.0)),
        ("hangar_model_kv_blocks_total", &[a], Some(9.0)),
        ("hangar_model_kv_blocks_total", &[c], None),
        ("hangar_model_in_flight", &[a], Some(3.0)),
        ("hangar_model_queue_depth", &[a], Some(4.0)),
        ("hangar_model_restarts_total", &[a], Some(5.0)),
        ("hangar_model_tokens_total", &[a, prompt], Some(6.0)),
        ("hangar_model_tokens_total", &[a, completion], Some(7.0)),
        ("hangar_model_pace_per_second", &[a, prompt], Some(0.5)),
        ("hangar_model_pace_per_second", &[a, completion], None),
    ] {
        assert_eq!(of(name, labels), expected, "{name} {labels:?}");
    }

    gone.store(true, Ordering::SeqCst);
    // A snapshot is shared for a moment: wait until it is taken anew.
    while of("hangar_model_in_flight", &[a]).is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(of("hangar_model_state", &[a, ready]), None);
    assert_eq!(of("hangar_model_restarts_total", &[a]), None);
    assert_eq!(of("hangar_model_pace_per_second", &[a, prompt]), None);
    assert_eq!(of("hangar_model_in_flight", &[c]), Some(3.0));
}

#[bounded::test]
async fn a_thousand_loaded_models_have_series_of_their_own() {
    let telemetry = telemetry();
    let models = 1000;
    let snapshot = move || {
        (0..models)
            .map(|n| sample(&format!("m{n}"), StateKind::Ready))
            .collect()
    };
    observe_models(&telemetry.meter(), Arc::new(snapshot));
    let text = TextEncoder::new()
        .encode_to_string(&telemetry.registry().gather())
        .unwrap();
    assert!(!text.contains("overflow"));
    let states = text
        .lines()
        .filter(|line| line.starts_with("hangar_model_state{"));
    assert_eq!(states.count(), models * StateKind::VARIANTS.len());
}

#[bounded::test]
async fn every_phase_of_every_model_has_a_series_of_its_own() {
    let models = 200;
    let settings = Settings {
        max_models: models,
        ..settings()
    };
    let telemetry = Telemetry::without_log(&settings).unwrap();
    let metrics = ModelMetrics::new(&telemetry.meter());
    let phases = LoadPhase::VARIANTS.iter().copied().map(Some);
    let phases: Vec<_> = phases.chain([None]).collect();
    for model in 0..models {
        for phase in &phases {
            for &outcome in LoadOutcomeKind::VARIANTS {
                metrics.load_ended(&format!("m{model}"), *phase, outcome, Duration::ZERO);
            }
        }
    }
    let text = TextEncoder::new()
        .encode_to_string(&telemetry.registry().gather())
        .unwrap();
    assert!(!text.contains("overflow"));
    let series = text
        .lines()
        .filter(|line| line.starts_with("hangar_model_load_duration_seconds_count{"));
    assert_eq!(
        series.count(),
        models * phases.len() * LoadOutcomeKind::VARIANTS.len()
    );
}

#[bounded::test]
async fn every_method_has_a_series_of_its_own() {
    let methods = RpcLayer::new(&telemetry().meter()).methods();
    let Values::OneOf(most) = RPC_METHOD.label.values else {
        panic!("methods are no models");
    };
    assert!(methods <= most, "{methods}");
}

#[bounded::test]
async fn durations_of_models_are_recorded() {
    let telemetry = telemetry();
    let metrics = ModelMetrics::new(&telemetry.meter());
    let seconds = Duration::from_secs;
    let (loading, succeeded) = (Some(LoadPhase::Loading), LoadOutcomeKind::Succeeded);
    metrics.load_ended("m", loading, succeeded, seconds(2));
    metrics.unloaded("m", seconds(3));
    let first = metrics.watcher();
    let _second = metrics.watcher();
    drop(first);
    let request = RequestSample {
        model: "m",
        operation: Operation::Chat,
        duration: seconds(4),
        time_to_first_token: Some(seconds(1)),
        time_per_output_token: None,
        error: Some("WORKER_DIED"),
    };
    metrics.request_ended(&request);
    let of = |name: &str, labels: &[(&str, &str)]| value(&telemetry, name, labels);
    let load = [
        ("model", "m"),
        ("phase", "loading"),
        ("outcome", "succeeded"),
    ];
    assert_eq!(
        of("hangar_model_load_duration_seconds_sum", &load),
        Some(2.0)
    );
    assert_eq!(
        of("hangar_model_unload_duration_seconds_sum", &[]),
        Some(3.0)
    );
    assert_eq!(of("hangar_watch_subscribers", &[]), Some(1.0));
    let request = [
        ("gen_ai_request_model", "m"),
        ("gen_ai_operation_name", "chat"),
        ("gen_ai_provider_name", "mistral.rs"),
    ];
    let name = "gen_ai_server_request_duration_seconds_sum";
    assert_eq!(of(name, &request), Some(4.0));
    assert_eq!(of(name, &[("error_type", "WORKER_DIED")]), Some(4.0));
    assert_eq!(
        of("gen_ai_server_time_to_first_token_seconds_sum", &request),
        Some(1.0)
    );
    assert_eq!(
        of("gen_ai_server_time_per_output_token_seconds_sum", &request),
        None
    );
}

#[bounded::test]
async fn instruments_by_default_record_nothing() {
    ModelMetrics::default().unloaded("m", Duration::from_secs(1));
    drop(ModelMetrics::default().watcher());
}

#[bounded::test]
async fn a_trace_is_carried_from_the_caller_to_the_worker() {
    let _telemetry = telemetry();
    let tracers = SdkTracerProvider::builder().build();
    let traces = tracing_opentelemetry::layer().with_tracer(tracers.tracer("test"));
    let _default = tracing_subscriber::registry().with(traces).set_default();

    let trace = "0af7651916cd43dd8448eb211c80319c";
    let mut headers = HeaderMap::new();
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    headers.insert("traceparent", parent.parse().unwrap());
    let span = info_span!("call");
    span.set_parent(extract(&headers)).unwrap();
    let mut metadata = MetadataMap::new();
    span.in_scope(|| propagate(&mut metadata));

    let sent = metadata
        .get("traceparent")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    assert!(sent.starts_with(&format!("00-{trace}-")), "{sent}");
    assert_ne!(sent, parent, "the parent is the own span");
    let own = span.context().span().span_context().span_id();
    assert!(sent.contains(&own.to_string()), "{sent}");
}

#[bounded::test]
async fn without_a_trace_nothing_is_carried() {
    let mut metadata = MetadataMap::new();
    propagate(&mut metadata);
    assert!(metadata.is_empty());
}

#[bounded::test(flavor = "multi_thread")]
async fn shutdown_is_bounded_when_the_collector_does_not_answer() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = settings();
    settings.otlp_endpoint = Some(format!("http://{}", silent.local_addr().unwrap()));
    let telemetry = Telemetry::without_log(&settings).unwrap();
    ModelMetrics::new(&telemetry.meter()).unloaded("m", Duration::from_secs(1));
    let start = std::time::Instant::now();
    telemetry.shutdown(Duration::from_millis(100)).await;
    // An export that is waited for would take so long.
    assert!(start.elapsed() < EXPORT_TIMEOUT);
}

/// Starts a collector that says yes to everything and reports what it was sent.
async fn collector() -> (String, tokio::sync::mpsc::Receiver<(String, Bytes)>) {
    let (sender, reported) = tokio::sync::mpsc::channel(16);
    let router = axum::Router::new().fallback(async move |request: Request<Body>| {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        sender.send((path, body)).await.unwrap();
        let frames = [
            Frame::data(Bytes::from_static(&[0; 5])),
            Frame::trailers(status("0")),
        ];
        let frames = futures::stream::iter(frames.map(Ok::<_, Infallible>));
        let answer = Response::builder().header("content-type", "application/grpc");
        answer.body(Body::new(StreamBody::new(frames))).unwrap()
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let options = crate::net::ServeOptions::main(8);
    let stop = tokio_util::sync::CancellationToken::new();
    let supervisor = Supervisor::default();
    let tasks = supervisor.tasks();
    let served = crate::net::serve(supervisor, listener, router, options, stop, Duration::ZERO);
    tasks.isolated("collector", served);
    (endpoint, reported)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[bounded::test(flavor = "multi_thread")]
async fn what_is_left_is_sent_to_the_collector_at_shutdown() {
    let (endpoint, mut reported) = collector().await;
    let mut settings = settings();
    settings.otlp_endpoint = Some(endpoint);
    let telemetry = Telemetry::without_log(&settings).unwrap();
    let _default = tracing_subscriber::registry()
        .with(telemetry.traces())
        .set_default();
    call(
        &RpcLayer::new(&telemetry.meter()),
        GET_INFO,
        stream_ending_with("14"),
    )
    .await;
    telemetry.shutdown(Duration::from_secs(5)).await;

    let (path, spans) = reported.recv().await.unwrap();
    assert!(path.ends_with("TraceService/Export"), "{path}");
    for expected in [
        GET_INFO,
        "service.name",
        "hangar",
        "rpc.response.status_code",
        "UNAVAILABLE",
    ] {
        assert!(contains(&spans, expected), "{expected}");
    }
    let (path, metrics) = reported.recv().await.unwrap();
    assert!(path.ends_with("MetricsService/Export"), "{path}");
    assert!(contains(&metrics, "rpc.server.call.duration"));
}
