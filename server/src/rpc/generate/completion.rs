//! A request to go on with a text, for protocols that ask for nothing else.

use hangar_client::v1::GenerateRequest;

use super::check::Generate;
use crate::{
    lifecycle::ModelRequest,
    model::{GenerationSettings, Sampling},
    wire,
};

/// What is to be generated, checked by whoever read it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::rpc) struct Completion {
    /// The text to go on with, at most [`MAX_TEXT`](super::MAX_TEXT) bytes.
    pub(in crate::rpc) prompt: String,
    pub(in crate::rpc) sampling: Sampling,
    /// Longest answer in tokens, at least 1; `None`: the model's default.
    pub(in crate::rpc) max_tokens: Option<u32>,
    /// Texts that end the answer.
    pub(in crate::rpc) stop: Vec<String>,
    pub(in crate::rpc) seed: Option<u64>,
    /// With log probabilities, and those of so many others at each place, at most 20.
    pub(in crate::rpc) logprobs: Option<u32>,
    /// Id of the request, for traces; empty: none.
    pub(in crate::rpc) request_id: String,
}

impl Completion {
    /// The request for it.
    pub(in crate::rpc) fn request(self, admission: ModelRequest) -> Generate {
        let Self {
            prompt,
            sampling,
            max_tokens,
            stop,
            seed,
            logprobs,
            request_id,
        } = self;
        let message = GenerateRequest {
            model_id: admission.name.to_string(),
            prompt,
            sampling: Some(wire::sampling_message(&sampling)),
            max_tokens: max_tokens.unwrap_or_default(),
            seed,
            logprobs: logprobs.is_some(),
            top_logprobs: logprobs.unwrap_or_default(),
            request_id,
            ..GenerateRequest::default()
        };
        Generate {
            admission,
            settings: GenerationSettings { sampling, stop },
            message,
        }
    }
}
