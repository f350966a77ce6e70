//! How many series an instrument may have.

use opentelemetry_sdk::metrics::{Instrument, Stream};

/// Series of a model in the instrument that has most of them: one for each state.
const SERIES_OF_A_MODEL: usize = 16;
/// Series that instruments without a model may have: methods by status codes.
const SERIES_OF_CALLS: usize = 2000;

/// Lets instruments of models have a few series for each model that may be registered, as far as that is
/// bearable: only models that were loaded since the start have any.
///
/// What goes beyond is counted in one series with the attribute `otel.metric.overflow`.
pub(super) fn limit_series(
    max_models: usize,
) -> impl Fn(&Instrument) -> Option<Stream> + Send + Sync + 'static {
    let of_models = max_models
        .saturating_mul(SERIES_OF_A_MODEL)
        .clamp(SERIES_OF_CALLS, 1 << 20);
    move |instrument| {
        let name = instrument.name();
        let limit = if name.starts_with("hangar.model.") || name.starts_with("gen_ai.") {
            of_models
        } else {
            SERIES_OF_CALLS
        };
        Stream::builder().with_cardinality_limit(limit).build().ok()
    }
}
