//! Answers: from the types of [`crate::model`] to messages of the public API.

mod load;
mod metadata;
mod status;
mod switch;
mod unload;

use hangar_client::v1;
pub(super) use load::{fatal_prompt, learned, load_record};
pub(super) use metadata::metadata_message;
pub(super) use status::{memory, status, suspend_reason};
pub(super) use switch::{switch, switch_strategy};
pub(super) use unload::unloaded;

use crate::model::{Failure, Pace};

fn pace(pace: Pace) -> v1::Pace {
    v1::Pace {
        prompt_tokens_per_second: pace.prompt_tokens_per_second,
        generated_tokens_per_second: pace.generated_tokens_per_second,
    }
}

/// The name of the reason, or nothing.
fn reason(failure: Option<&Failure>) -> String {
    failure
        .map(|failure| failure.reason.name().to_owned())
        .unwrap_or_default()
}
