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
