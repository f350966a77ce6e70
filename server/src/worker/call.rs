//! What a worker is asked.

use std::time::Duration;

use hangar_client::v1;

use crate::model::{GenerationSettings, Reason};

/// A request for text.
#[derive(Clone, Debug)]
pub struct GenerateCall {
    /// The caller's.
    pub request: v1::GenerateRequest,
    /// What holds in place of what it says of sampling and of texts that end the answer.
    pub settings: GenerationSettings,
    /// Time that it has waited.
    pub queued: Duration,
    /// Longest answer in tokens where the request does not say; `None`: the model's own default.
    pub default_max_tokens: Option<u32>,
    /// What it is held against.
    pub bounds: RequestBounds,
}

/// What the worker holds a request against, since only it knows the request's tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestBounds {
    /// Time that the caller leaves; `None`: all that it takes.
    pub time_left: Option<Duration>,
    /// Length in tokens of a prompt that has ended a worker of this model, and how it did.
    pub fatal_prompt: Option<(u64, Reason)>,
}
