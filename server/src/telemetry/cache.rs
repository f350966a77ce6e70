//! Metrics of the cache of prepared weights, observed when they are read.

use std::sync::Arc;

use opentelemetry::metrics::Meter;

use super::instruments::{self, Metric};
use crate::prepared::{CacheReport, PreparedCache};

/// Observes `cache` with instruments of `meter`. Call it once.
pub fn observe_cache(meter: &Meter, cache: &Arc<PreparedCache>) {
    let observe = |metric: Metric, value: fn(CacheReport) -> u64| {
        let cache = cache.clone();
        metric.observe(meter, move |instrument| {
            instrument.observe(value(cache.report()), &[]);
        });
    };
    observe(instruments::CACHE_HITS, |report| report.hits);
    observe(instruments::CACHE_MISSES, |report| report.misses);
    observe(instruments::CACHE_SIZE, |report| report.size);
    observe(instruments::CACHE_ENTRIES, |report| report.entries);
}
