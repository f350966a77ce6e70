//! The metrics that there are: name, unit, words, labels and bounds of each.
//!
//! Invariant: every instrument is made here from its definition (clippy refuses the meter's own builders elsewhere), so
//! that the page of metrics lists them all.
#![allow(clippy::disallowed_methods)]

use opentelemetry::metrics::{AsyncInstrument, Counter, Histogram, Meter, UpDownCounter};

use super::labels::{
    EVICTION_CAUSE, Label, MEMORY_TYPE, MODEL, OPERATION, OUTCOME, PHASE, PROVIDER, REQUEST_ERROR,
    REQUEST_MODEL, RPC_ERROR, RPC_METHOD, RPC_STATUS, RPC_SYSTEM, STATE, TOKEN_TYPE, Values,
};

/// A metric.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metric {
    /// Its name, by the semantic conventions where they have one.
    pub(super) name: &'static str,
    /// How it is measured.
    pub(super) kind: Kind,
    /// Its unit, as UCUM writes it. Empty: none.
    pub(super) unit: &'static str,
    /// What it is.
    pub(super) description: &'static str,
    /// Its attributes: the page lists them, and a test holds them against what is scraped.
    pub(super) labels: &'static [Label],
}

/// How a metric is measured.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Values by calls, counted in these buckets.
    Histogram(&'static [f64]),
    /// Additions by calls.
    Counter,
    /// Additions and subtractions by calls.
    UpDownCounter,
    /// A sum that is looked at when metrics are collected.
    ObservedCounter,
    /// A value that is looked at when metrics are collected.
    ObservedGauge,
}

/// Buckets of loads, in seconds.
const LOADS: Kind = Kind::Histogram(&[
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0,
]);
/// Buckets of the semantic conventions for `rpc.server.call.duration`.
const CALLS: Kind = Kind::Histogram(&[
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
]);
/// Buckets of the semantic conventions for `gen_ai.server.request.duration`.
const REQUESTS: Kind = Kind::Histogram(&[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
]);
/// Buckets of the semantic conventions for `gen_ai.server.time_to_first_token`.
const FIRST_TOKENS: Kind = Kind::Histogram(&[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
]);
/// Buckets of the semantic conventions for `gen_ai.server.time_per_output_token`.
const OUTPUT_TOKENS: Kind = Kind::Histogram(&[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
]);

/// Labels of an answer.
const OF_ANSWER: &[Label] = &[OPERATION.label, PROVIDER.label, REQUEST_MODEL.label];

/// Defines metrics, and the list of them all.
macro_rules! metrics {
    ($($constant:ident: $name:literal, $kind:expr, $unit:literal, $labels:expr, $description:literal;)*) => {
        $(
            #[doc = $description]
            pub(super) const $constant: Metric = Metric {
                name: $name,
                kind: $kind,
                unit: $unit,
                description: $description,
                labels: $labels,
            };
        )*
        /// All of them.
        pub(super) const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    CALL_DURATION: "rpc.server.call.duration", CALLS, "s",
        &[RPC_SYSTEM.label, RPC_METHOD.label, RPC_STATUS.label, RPC_ERROR.label],
        "Time of a call, its stream included";
    MODEL_STATE: "hangar.model.state", Kind::ObservedGauge, "", &[MODEL.label, STATE.label],
        "1 for the state that the model is in, 0 for the others";
    LOAD_DURATION: "hangar.model.load.duration", LOADS, "s", &[MODEL.label, PHASE.label, OUTCOME.label],
        "Time of a phase of a load, or of all of it (phase total)";
    UNLOAD_DURATION: "hangar.model.unload.duration", LOADS, "s", &[MODEL.label],
        "Time of an unload, drain included";
    EVICTIONS: "hangar.model.evictions", Kind::Counter, "{eviction}", &[MODEL.label, EVICTION_CAUSE.label],
        "Models that were unloaded without being asked to";
    RESTARTS: "hangar.model.restarts", Kind::ObservedCounter, "{restart}", &[MODEL.label],
        "Restarts of the worker after a fault";
    MEMORY: "hangar.model.memory", Kind::ObservedGauge, "By", &[MODEL.label, MEMORY_TYPE.label],
        "Memory that the worker holds";
    KV_BLOCKS_USED: "hangar.model.kv_blocks.used", Kind::ObservedGauge, "{block}", &[MODEL.label],
        "Blocks of the KV cache that sequences have";
    KV_BLOCKS_TOTAL: "hangar.model.kv_blocks.total", Kind::ObservedGauge, "{block}", &[MODEL.label],
        "Blocks of the KV cache";
    IN_FLIGHT: "hangar.model.in_flight", Kind::ObservedGauge, "{request}", &[MODEL.label],
        "Requests that run";
    QUEUE_DEPTH: "hangar.model.queue.depth", Kind::ObservedGauge, "{request}", &[MODEL.label],
        "Requests that wait";
    TOKENS: "hangar.model.tokens", Kind::ObservedCounter, "{token}", &[MODEL.label, TOKEN_TYPE.label],
        "Tokens of prompts and answers";
    PACE: "hangar.model.pace", Kind::ObservedGauge, "{token}/s", &[MODEL.label, TOKEN_TYPE.label],
        "Tokens a second that the engine was last seen to read of prompts and to make of answers";
    REQUEST_DURATION: "gen_ai.server.request.duration", REQUESTS, "s",
        &[OPERATION.label, PROVIDER.label, REQUEST_MODEL.label, REQUEST_ERROR.label],
        "Time of a request";
    TIME_TO_FIRST_TOKEN: "gen_ai.server.time_to_first_token", FIRST_TOKENS, "s", OF_ANSWER,
        "Time to the first token of an answer";
    TIME_PER_OUTPUT_TOKEN: "gen_ai.server.time_per_output_token", OUTPUT_TOKENS, "s", OF_ANSWER,
        "Time of each token after the first";
    WATCHERS: "hangar.watch.subscribers", Kind::UpDownCounter, "{subscriber}", &[],
        "Open watch streams";
    CACHE_HITS: "hangar.cache.hits", Kind::ObservedCounter, "{load}", &[],
        "Loads that used prepared weights";
    CACHE_MISSES: "hangar.cache.misses", Kind::ObservedCounter, "{load}", &[],
        "Loads that could have used prepared weights, had there been any";
    CACHE_SIZE: "hangar.cache.size", Kind::ObservedGauge, "By", &[],
        "Size of the prepared weights";
    CACHE_ENTRIES: "hangar.cache.entries", Kind::ObservedGauge, "{entry}", &[],
        "Models whose weights are prepared";
}

impl Metric {
    /// How many series it may have: of each model, where it has any of models.
    pub(super) fn series(&self) -> usize {
        let counts = self.labels.iter().map(|label| match label.values {
            Values::Models => 1,
            Values::OneOf(count) => count,
        });
        counts.product()
    }

    /// Whether it has series of models.
    pub(super) fn is_of_models(&self) -> bool {
        let mut labels = self.labels.iter();
        labels.any(|label| label.values == Values::Models)
    }

    /// Makes the histogram.
    pub(super) fn histogram(&self, meter: &Meter) -> Histogram<f64> {
        let buckets = match self.kind {
            Kind::Histogram(buckets) => buckets.to_vec(),
            _ => Vec::new(),
        };
        meter
            .f64_histogram(self.name)
            .with_unit(self.unit)
            .with_description(self.description)
            .with_boundaries(buckets)
            .build()
    }

    /// Makes the counter.
    pub(super) fn counter(&self, meter: &Meter) -> Counter<u64> {
        meter
            .u64_counter(self.name)
            .with_unit(self.unit)
            .with_description(self.description)
            .build()
    }

    /// Makes the counter that goes up and down.
    pub(super) fn up_down_counter(&self, meter: &Meter) -> UpDownCounter<i64> {
        meter
            .i64_up_down_counter(self.name)
            .with_unit(self.unit)
            .with_description(self.description)
            .build()
    }

    /// Has `observe` called when metrics are collected: a gauge, or where the definition says so a counter.
    pub(super) fn observe(
        &self,
        meter: &Meter,
        observe: impl Fn(&dyn AsyncInstrument<u64>) + Send + Sync + 'static,
    ) {
        let unit = self.unit;
        if matches!(self.kind, Kind::ObservedCounter) {
            meter
                .u64_observable_counter(self.name)
                .with_unit(unit)
                .with_description(self.description)
                .with_callback(move |counter| observe(counter))
                .build();
        } else {
            meter
                .u64_observable_gauge(self.name)
                .with_unit(unit)
                .with_description(self.description)
                .with_callback(move |gauge| observe(gauge))
                .build();
        }
    }

    /// Has `observe` called when metrics are collected: a gauge of what is no whole number.
    pub(super) fn observe_rate(
        &self,
        meter: &Meter,
        observe: impl Fn(&dyn AsyncInstrument<f64>) + Send + Sync + 'static,
    ) {
        meter
            .f64_observable_gauge(self.name)
            .with_unit(self.unit)
            .with_description(self.description)
            .with_callback(move |gauge| observe(gauge))
            .build();
    }
}
