//! Answers: from the types of [`crate::model`] to messages of the public API.

mod load;
mod metadata;
mod spec;
mod status;
mod switch;
mod unload;

use std::time::Duration;

use hangar_client::v1;
pub(super) use load::{fatal_prompt, learned, load_record};
pub(super) use metadata::metadata_message;
pub(super) use spec::spec;
pub(super) use status::{memory, status, suspend_reason};
pub(super) use switch::{switch, switch_strategy};
pub(super) use unload::unloaded;

use crate::model::{Failure, Pace, Sampling};

/// How the next token is chosen.
pub(super) fn sampling(sampling: &Sampling) -> v1::Sampling {
    v1::Sampling {
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        min_p: sampling.min_p,
        frequency_penalty: sampling.frequency_penalty,
        presence_penalty: sampling.presence_penalty,
        repetition_penalty: sampling.repetition_penalty,
    }
}

/// A length of time; `None` where the message cannot express it.
pub(super) fn duration(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
}

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
