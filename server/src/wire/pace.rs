//! Paces as messages.

use hangar_client::v1;

use crate::model::Pace;

/// The pace as a message.
pub(super) fn message(pace: Pace) -> v1::Pace {
    v1::Pace {
        prompt_tokens_per_second: pace.prompt_tokens_per_second,
        generated_tokens_per_second: pace.generated_tokens_per_second,
    }
}

/// What a worker tells. A rate that is none is not known.
pub fn pace(told: v1::Pace) -> Pace {
    let rate = |rate: Option<f64>| rate.filter(|rate| rate.is_finite() && *rate > 0.0);
    Pace {
        prompt_tokens_per_second: rate(told.prompt_tokens_per_second),
        generated_tokens_per_second: rate(told.generated_tokens_per_second),
    }
}
