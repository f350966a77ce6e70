//! How many series an instrument may have.

use opentelemetry_sdk::metrics::{Instrument, Stream};

use super::instruments::{self, Series};

/// Models that may have series of their own at a time. The SDK makes room for all series of an instrument when the
/// instrument is made, and touches a byte for each, so that a bound that is never reached costs memory as well.
const MODELS: usize = 8192;
/// Series that instruments without a model may have: methods by status codes.
const SERIES_OF_CALLS: usize = 2000;

/// Lets instruments of models have series for each model that may be registered, up to [`MODELS`]: only models
/// that were loaded since the start have any.
///
/// What goes beyond is counted in one series with the attribute `otel.metric.overflow`.
pub(super) fn limit_series(
    max_models: usize,
) -> impl Fn(&Instrument) -> Option<Stream> + Send + Sync + 'static {
    let models = max_models.min(MODELS);
    move |instrument| {
        let limit = (models * of_a_model(instrument.name())).max(SERIES_OF_CALLS);
        Stream::builder().with_cardinality_limit(limit).build().ok()
    }
}

/// Series that a model may have in the instrument of this name.
fn of_a_model(instrument: &str) -> usize {
    let metric = instruments::ALL
        .iter()
        .find(|metric| metric.name == instrument);
    match metric.map(|metric| metric.series) {
        Some(Series::OfModel(series)) => series,
        Some(Series::OfServer) | None => 0,
    }
}
