//! How many series an instrument may have.

use opentelemetry_sdk::metrics::{Instrument, Stream};

/// Models that may have series of their own at a time. The SDK makes room for all series of an instrument when the
/// instrument is made, and touches a byte for each, so that a bound that is never reached costs memory as well.
const MODELS: usize = 8192;
/// Series that a model may have in instruments with its states, or with its phases or operations and their ends.
const MANY_OF_A_MODEL: usize = 16;
/// Series that a model may have in the others: one for each kind of memory, for example.
const FEW_OF_A_MODEL: usize = 4;
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
    match instrument {
        "hangar.model.state" | "hangar.model.load.duration" | "gen_ai.server.request.duration" => {
            MANY_OF_A_MODEL
        }
        name if name.starts_with("hangar.model.") || name.starts_with("gen_ai.") => FEW_OF_A_MODEL,
        _ => 0,
    }
}
