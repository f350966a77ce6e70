//! Metrics of models: what they do, hold and how long it takes.
//!
//! Invariant: what can be counted from the models' own state is observed from a snapshot when metrics are
//! collected, so that a model that is gone has no series any more. Only durations are recorded by calls.

mod kv_blocks;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Counter, Histogram, Meter, UpDownCounter};

use crate::model::SuspendCause;

/// States of a model, as they stand in the attribute `state`.
pub const STATES: [&str; 11] = [
    "unloaded",
    "pending",
    "downloading",
    "starting",
    "loading",
    "warming",
    "ready",
    "draining",
    "unloading",
    "backoff",
    "failed",
];

/// A model when metrics are collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSample {
    /// Its id.
    pub model: String,
    /// Its state, one of [`STATES`].
    pub state: &'static str,
    /// What its worker holds. `None` when there is none.
    pub memory: Option<MemorySample>,
    /// Blocks of its KV cache that are in use, and all of them. `None` where it is not kept in blocks.
    pub kv_blocks: Option<(u64, u64)>,
    /// Requests that run.
    pub in_flight: u64,
    /// Requests that wait.
    pub queued: u64,
    /// Restarts after a fault since the server started.
    pub restarts: u64,
    /// Tokens of prompts since the server started.
    pub prompt_tokens: u64,
    /// Tokens of answers since the server started.
    pub completion_tokens: u64,
}

/// What a worker holds, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySample {
    /// Host memory.
    pub host: u64,
    /// Device memory.
    pub device: u64,
}

/// Gives all registered models; called when metrics are collected, from any thread. Must not block.
pub type Snapshot = Arc<dyn Fn() -> Vec<ModelSample> + Send + Sync>;

/// A request to a model that has ended.
#[derive(Clone, Copy, Debug)]
pub struct RequestSample<'a> {
    /// The model's id.
    pub model: &'a str,
    /// `chat` for messages, `text_completion` for a prompt, `embeddings` for vectors.
    pub operation: &'static str,
    /// From its admission to its end.
    pub duration: Duration,
    /// From its admission to the first token. `None` if there was none.
    pub time_to_first_token: Option<Duration>,
    /// Mean time of the tokens after the first. `None` for fewer than two.
    pub time_per_output_token: Option<Duration>,
    /// Why it failed, for example `WORKER_DIED`. `None` if it did not.
    pub error: Option<&'static str>,
}

/// Instruments for what is recorded by calls. Clones share them; the default records nothing.
#[derive(Clone)]
pub struct ModelMetrics {
    load_duration: Histogram<f64>,
    unload_duration: Histogram<f64>,
    evictions: Counter<u64>,
    watchers: UpDownCounter<i64>,
    request_duration: Histogram<f64>,
    time_to_first_token: Histogram<f64>,
    time_per_output_token: Histogram<f64>,
}

/// Counts as a watcher until it is dropped.
pub struct WatcherGuard(UpDownCounter<i64>);

/// The last snapshot: the instruments of one collection share it.
struct Samples {
    snapshot: Snapshot,
    last: Mutex<Option<(Instant, Arc<[ModelSample]>)>>,
}

/// How long instruments share a snapshot.
const SNAPSHOT_AGE: Duration = Duration::from_millis(100);

/// Buckets of loads, in seconds.
const LOAD_BUCKETS: [f64; 14] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0,
];
/// Buckets of the semantic conventions for `gen_ai.server.request.duration`.
const REQUEST_BUCKETS: [f64; 14] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
/// Buckets of the semantic conventions for `gen_ai.server.time_to_first_token`.
const FIRST_TOKEN_BUCKETS: [f64; 16] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
/// Buckets of the semantic conventions for `gen_ai.server.time_per_output_token`.
const OUTPUT_TOKEN_BUCKETS: [f64; 13] = [
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
];

// === impl ModelMetrics ===

impl ModelMetrics {
    /// Instruments of `meter`.
    pub fn new(meter: &Meter) -> Self {
        let seconds = |name, description, buckets: &[f64]| {
            meter
                .f64_histogram(name)
                .with_unit("s")
                .with_description(description)
                .with_boundaries(buckets.to_vec())
                .build()
        };
        Self {
            load_duration: seconds(
                "hangar.model.load.duration",
                "Time of a phase of a load",
                &LOAD_BUCKETS,
            ),
            unload_duration: seconds(
                "hangar.model.unload.duration",
                "Time of an unload, drain included",
                &LOAD_BUCKETS,
            ),
            evictions: meter
                .u64_counter("hangar.model.evictions")
                .with_unit("{eviction}")
                .with_description("Models that were unloaded without being asked to")
                .build(),
            watchers: meter
                .i64_up_down_counter("hangar.watch.subscribers")
                .with_unit("{subscriber}")
                .with_description("Open watch streams")
                .build(),
            request_duration: seconds(
                "gen_ai.server.request.duration",
                "Time of a request",
                &REQUEST_BUCKETS,
            ),
            time_to_first_token: seconds(
                "gen_ai.server.time_to_first_token",
                "Time to the first token of an answer",
                &FIRST_TOKEN_BUCKETS,
            ),
            time_per_output_token: seconds(
                "gen_ai.server.time_per_output_token",
                "Time of each token after the first",
                &OUTPUT_TOKEN_BUCKETS,
            ),
        }
    }

    /// A phase of a load has ended.
    ///
    /// `phase` is `pending`, `downloading`, `starting`, `loading` or `warming`, or `total` for the load
    /// as a whole; `outcome` is `succeeded`, `failed` or `cancelled`.
    pub fn load_phase_ended(
        &self,
        model: &str,
        phase: &'static str,
        outcome: &'static str,
        duration: Duration,
    ) {
        let attributes = [
            of_model(model),
            KeyValue::new("phase", phase),
            KeyValue::new("outcome", outcome),
        ];
        self.load_duration
            .record(duration.as_secs_f64(), &attributes);
    }

    /// A model was unloaded.
    pub fn unloaded(&self, model: &str, duration: Duration) {
        self.unload_duration
            .record(duration.as_secs_f64(), &[of_model(model)]);
    }

    /// The model `model` was evicted, or unloaded for idleness.
    pub fn evicted(&self, model: &str, cause: SuspendCause) {
        let cause = match cause {
            SuspendCause::Evicted => "memory",
            SuspendCause::Idle => "idle",
        };
        let cause = KeyValue::new("hangar.eviction.cause", cause);
        self.evictions.add(1, &[of_model(model), cause]);
    }

    /// A watch stream was opened.
    pub fn watcher(&self) -> WatcherGuard {
        self.watchers.add(1, &[]);
        WatcherGuard(self.watchers.clone())
    }

    /// A request has ended.
    pub fn request_ended(&self, request: &RequestSample<'_>) {
        let mut attributes = vec![
            KeyValue::new("gen_ai.operation.name", request.operation),
            KeyValue::new("gen_ai.provider.name", "mistral.rs"),
            KeyValue::new("gen_ai.request.model", request.model.to_owned()),
        ];
        let record =
            |histogram: &Histogram<f64>, time: Option<Duration>, attributes: &[KeyValue]| {
                if let Some(time) = time {
                    histogram.record(time.as_secs_f64(), attributes);
                }
            };
        record(
            &self.time_to_first_token,
            request.time_to_first_token,
            &attributes,
        );
        record(
            &self.time_per_output_token,
            request.time_per_output_token,
            &attributes,
        );
        attributes.extend(
            request
                .error
                .map(|error| KeyValue::new("error.type", error)),
        );
        record(&self.request_duration, Some(request.duration), &attributes);
    }
}

impl Default for ModelMetrics {
    fn default() -> Self {
        let nothing = opentelemetry::metrics::noop::NoopMeterProvider::new();
        Self::new(&opentelemetry::metrics::MeterProvider::meter(
            &nothing, "none",
        ))
    }
}

impl fmt::Debug for ModelMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelMetrics").finish_non_exhaustive()
    }
}

// === impl WatcherGuard ===

impl Drop for WatcherGuard {
    fn drop(&mut self) {
        self.0.add(-1, &[]);
    }
}

impl fmt::Debug for WatcherGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatcherGuard").finish_non_exhaustive()
    }
}

/// Observes the models of `snapshot` with instruments of `meter`. Call it once.
pub fn observe_models(meter: &Meter, snapshot: Snapshot) {
    let samples = Arc::new(Samples {
        snapshot,
        last: Mutex::new(None),
    });
    observe_states(meter, samples.clone());
    let gauge =
        |name, unit: &'static str, description: &'static str, value: fn(&ModelSample) -> u64| {
            let samples = samples.clone();
            meter
                .u64_observable_gauge(name)
                .with_unit(unit)
                .with_description(description)
                .with_callback(move |gauge| {
                    for sample in samples.now().iter() {
                        gauge.observe(value(sample), &[of_model(&sample.model)]);
                    }
                })
                .build();
        };
    gauge(
        "hangar.model.in_flight",
        "{request}",
        "Requests that run",
        |s| s.in_flight,
    );
    gauge(
        "hangar.model.queue.depth",
        "{request}",
        "Requests that wait",
        |s| s.queued,
    );
    let restarts = samples.clone();
    meter
        .u64_observable_counter("hangar.model.restarts")
        .with_unit("{restart}")
        .with_description("Restarts of the worker after a fault")
        .with_callback(move |counter| {
            for sample in restarts.now().iter() {
                counter.observe(sample.restarts, &[of_model(&sample.model)]);
            }
        })
        .build();
    let tokens = samples.clone();
    meter
        .u64_observable_counter("hangar.model.tokens")
        .with_unit("{token}")
        .with_description("Tokens of prompts and answers")
        .with_callback(move |counter| {
            for sample in tokens.now().iter() {
                typed(counter, sample, "prompt", sample.prompt_tokens);
                typed(counter, sample, "completion", sample.completion_tokens);
            }
        })
        .build();
    kv_blocks::observe(meter, samples.clone());
    meter
        .u64_observable_gauge("hangar.model.memory")
        .with_unit("By")
        .with_description("Memory that the worker holds")
        .with_callback(move |gauge| {
            for sample in samples.now().iter() {
                if let Some(memory) = sample.memory {
                    typed(gauge, sample, "host", memory.host);
                    typed(gauge, sample, "device", memory.device);
                }
            }
        })
        .build();
}

fn observe_states(meter: &Meter, samples: Arc<Samples>) {
    meter
        .u64_observable_gauge("hangar.model.state")
        .with_description("1 for the state that the model is in, 0 for the others")
        .with_callback(move |gauge| {
            for sample in samples.now().iter() {
                for state in STATES {
                    let attributes = [of_model(&sample.model), KeyValue::new("state", state)];
                    gauge.observe(u64::from(state == sample.state), &attributes);
                }
            }
        })
        .build();
}

fn typed(to: &dyn AsyncInstrument<u64>, sample: &ModelSample, kind: &'static str, value: u64) {
    to.observe(
        value,
        &[of_model(&sample.model), KeyValue::new("type", kind)],
    );
}

fn of_model(model: &str) -> KeyValue {
    KeyValue::new("model", model.to_owned())
}

// === impl Samples ===

impl Samples {
    fn now(&self) -> Arc<[ModelSample]> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((at, samples)) if at.elapsed() < SNAPSHOT_AGE => samples.clone(),
            _ => {
                let samples: Arc<[ModelSample]> = (self.snapshot)().into();
                *last = Some((Instant::now(), samples.clone()));
                samples
            }
        }
    }
}
