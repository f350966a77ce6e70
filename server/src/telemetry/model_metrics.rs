//! Metrics of models: what they do, hold and how long it takes.
//!
//! Invariant: what can be counted from the models' own state is observed from a snapshot when metrics are
//! collected, so that a model that is gone has no series any more. Only durations are recorded by calls.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use opentelemetry::{
    KeyValue,
    metrics::{AsyncInstrument, Counter, Histogram, Meter, UpDownCounter},
};
use strum::VariantArray;

use super::{
    instruments::{self, Metric},
    labels::{
        EVICTION_CAUSE, MEMORY_TYPE, MODEL, MemoryType, OPERATION, OUTCOME, PHASE, PROVIDER,
        REQUEST_ERROR, REQUEST_MODEL, STATE, TOKEN_TYPE, TokenType,
    },
};
use crate::model::{LoadOutcomeKind, LoadPhase, Operation, Pace, StateKind, SuspendCause};

/// A model when metrics are collected.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSample {
    /// Its id.
    pub model: String,
    /// Its state.
    pub state: StateKind,
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
    /// How quickly its engine was seen to work.
    pub pace: Pace,
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
pub type SampleModels = Arc<dyn Fn() -> Vec<ModelSample> + Send + Sync>;

/// A request to a model that has ended.
#[derive(Clone, Copy, Debug)]
pub struct RequestSample<'a> {
    /// The model's id.
    pub model: &'a str,
    /// What it asked for.
    pub operation: Operation,
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
    snapshot: SampleModels,
    last: Mutex<Option<(Instant, Arc<[ModelSample]>)>>,
}

/// How long instruments share a snapshot.
const SNAPSHOT_AGE: Duration = Duration::from_millis(100);

impl ModelMetrics {
    /// Instruments of `meter`.
    pub fn new(meter: &Meter) -> Self {
        Self {
            load_duration: instruments::LOAD_DURATION.histogram(meter),
            unload_duration: instruments::UNLOAD_DURATION.histogram(meter),
            evictions: instruments::EVICTIONS.counter(meter),
            watchers: instruments::WATCHERS.up_down_counter(meter),
            request_duration: instruments::REQUEST_DURATION.histogram(meter),
            time_to_first_token: instruments::TIME_TO_FIRST_TOKEN.histogram(meter),
            time_per_output_token: instruments::TIME_PER_OUTPUT_TOKEN.histogram(meter),
        }
    }

    /// This phase of a load has ended, or without one the load as a whole.
    pub fn load_ended(
        &self,
        model: &str,
        phase: Option<LoadPhase>,
        outcome: LoadOutcomeKind,
        duration: Duration,
    ) {
        let attributes = [of_model(model), PHASE.is(phase), OUTCOME.is(outcome)];
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
        let attributes = [of_model(model), EVICTION_CAUSE.is(cause)];
        self.evictions.add(1, &attributes);
    }

    /// A watch stream was opened.
    pub fn watcher(&self) -> WatcherGuard {
        self.watchers.add(1, &[]);
        WatcherGuard(self.watchers.clone())
    }

    /// A request has ended.
    pub fn request_ended(&self, request: &RequestSample<'_>) {
        let mut attributes = vec![
            OPERATION.is(request.operation),
            PROVIDER.is(()),
            REQUEST_MODEL.is(request.model.to_owned()),
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
        attributes.extend(request.error.map(|error| REQUEST_ERROR.is(error)));
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
pub fn observe_models(meter: &Meter, snapshot: SampleModels) {
    let samples = Arc::new(Samples {
        snapshot,
        last: Mutex::new(None),
    });
    let observe = |metric: Metric, observe: fn(&dyn AsyncInstrument<u64>, &ModelSample)| {
        let samples = samples.clone();
        metric.observe(meter, move |instrument| {
            for sample in samples.now().iter() {
                observe(instrument, sample);
            }
        });
    };
    observe(instruments::MODEL_STATE, states);
    observe(instruments::IN_FLIGHT, |to, sample| {
        to.observe(sample.in_flight, &[of_model(&sample.model)]);
    });
    observe(instruments::QUEUE_DEPTH, |to, sample| {
        to.observe(sample.queued, &[of_model(&sample.model)]);
    });
    observe(instruments::RESTARTS, |to, sample| {
        to.observe(sample.restarts, &[of_model(&sample.model)]);
    });
    observe(instruments::TOKENS, tokens);
    observe(instruments::MEMORY, memory);
    let paces = samples.clone();
    instruments::PACE.observe_rate(meter, move |to| {
        for sample in paces.now().iter() {
            pace(to, sample);
        }
    });
    observe(instruments::KV_BLOCKS_USED, |to, sample| {
        if let Some((used, _)) = sample.kv_blocks {
            to.observe(used, &[of_model(&sample.model)]);
        }
    });
    observe(instruments::KV_BLOCKS_TOTAL, |to, sample| {
        if let Some((_, total)) = sample.kv_blocks {
            to.observe(total, &[of_model(&sample.model)]);
        }
    });
}

fn states(to: &dyn AsyncInstrument<u64>, sample: &ModelSample) {
    for &state in StateKind::VARIANTS {
        let attributes = [of_model(&sample.model), STATE.is(state)];
        to.observe(u64::from(state == sample.state), &attributes);
    }
}

fn tokens(to: &dyn AsyncInstrument<u64>, sample: &ModelSample) {
    let (prompt, completion) = (sample.prompt_tokens, sample.completion_tokens);
    typed(to, sample, TOKEN_TYPE.is(TokenType::Prompt), prompt);
    typed(to, sample, TOKEN_TYPE.is(TokenType::Completion), completion);
}

fn memory(to: &dyn AsyncInstrument<u64>, sample: &ModelSample) {
    if let Some(MemorySample { host, device }) = sample.memory {
        typed(to, sample, MEMORY_TYPE.is(MemoryType::Host), host);
        typed(to, sample, MEMORY_TYPE.is(MemoryType::Device), device);
    }
}

fn pace(to: &dyn AsyncInstrument<f64>, sample: &ModelSample) {
    let Pace {
        prompt_tokens_per_second,
        generated_tokens_per_second,
    } = sample.pace;
    for (kind, seen) in [
        (TokenType::Prompt, prompt_tokens_per_second),
        (TokenType::Completion, generated_tokens_per_second),
    ] {
        if let Some(pace) = seen {
            typed(to, sample, TOKEN_TYPE.is(kind), pace);
        }
    }
}

fn typed<T>(to: &dyn AsyncInstrument<T>, sample: &ModelSample, kind: KeyValue, value: T) {
    to.observe(value, &[of_model(&sample.model), kind]);
}

fn of_model(model: &str) -> KeyValue {
    MODEL.is(model.to_owned())
}

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
