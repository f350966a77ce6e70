//! Sampling parameters as messages, both ways.

use hangar_client::v1;

use crate::model::Sampling;

/// The parameters that a message gives.
pub(super) fn read_sampling(message: v1::Sampling) -> Sampling {
    Sampling {
        temperature: message.temperature,
        top_p: message.top_p,
        top_k: message.top_k,
        min_p: message.min_p,
        frequency_penalty: message.frequency_penalty,
        presence_penalty: message.presence_penalty,
        repetition_penalty: message.repetition_penalty,
    }
}

/// How the next token is chosen.
pub fn sampling_message(sampling: &Sampling) -> v1::Sampling {
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
