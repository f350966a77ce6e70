//! Metrics of the cache of prepared weights, observed when they are read.

use std::sync::Arc;

use opentelemetry::metrics::Meter;

use crate::prepared::{CacheReport, PreparedCache};

/// Observes `cache` with instruments of `meter`. Call it once.
pub fn observe_cache(meter: &Meter, cache: &Arc<PreparedCache>) {
    let counter = |name, description, value: fn(CacheReport) -> u64| {
        let cache = cache.clone();
        meter
            .u64_observable_counter(name)
            .with_unit("{load}")
            .with_description(description)
            .with_callback(move |counter| counter.observe(value(cache.report()), &[]))
            .build();
    };
    counter(
        "hangar.cache.hits",
        "Loads that used prepared weights",
        |report| report.hits,
    );
    counter(
        "hangar.cache.misses",
        "Loads that could have used prepared weights, had there been any",
        |report| report.misses,
    );
    let gauge = |name, unit: &'static str, description, value: fn(CacheReport) -> u64| {
        let cache = cache.clone();
        meter
            .u64_observable_gauge(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |gauge| gauge.observe(value(cache.report()), &[]))
            .build();
    };
    gauge(
        "hangar.cache.size",
        "By",
        "Size of the prepared weights",
        |report| report.size,
    );
    gauge(
        "hangar.cache.entries",
        "{entry}",
        "Models whose weights are prepared",
        |report| report.entries,
    );
}
