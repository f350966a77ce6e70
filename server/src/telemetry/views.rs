//! How many series an instrument may have.

use opentelemetry_sdk::metrics::{Instrument, Stream};

use super::instruments;

/// Models that may have series of their own at a time. The SDK makes room for all series of an instrument when the
/// instrument is made, and touches a byte for each, so that a bound that is never reached costs memory as well.
const MODELS: usize = 8192;
/// Series that each of these models has room for at least: what is recorded by calls outlasts a model that is deleted.
const LEAST_OF_A_MODEL: usize = 4;
/// Series that every instrument has room for.
const LEAST: usize = 2000;

/// Lets instruments of models have series for each model that may be registered, up to [`MODELS`]: only models
/// that were loaded since the start have any.
///
/// What goes beyond is counted in one series with the attribute `otel.metric.overflow`.
pub(super) fn limit_series(
    max_models: usize,
) -> impl Fn(&Instrument) -> Option<Stream> + Send + Sync + 'static {
    let models = max_models.min(MODELS);
    move |instrument| {
        let limit = most_series(instrument.name(), models).max(LEAST);
        Stream::builder().with_cardinality_limit(limit).build().ok()
    }
}

/// Series that the instrument of this name may have while so many models have any.
fn most_series(instrument: &str, models: usize) -> usize {
    let mut all = instruments::ALL.iter();
    match all.find(|metric| metric.name == instrument) {
        Some(metric) if metric.is_of_models() => models * metric.series().max(LEAST_OF_A_MODEL),
        Some(metric) => metric.series(),
        None => 0,
    }
}
