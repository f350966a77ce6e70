//! What transformers says: `tests/reference/real_model.py` has computed it.

use anyhow::Result;
use serde::Deserialize;

/// The most likely answer to a prompt, in F32.
#[derive(Debug, Deserialize)]
pub(super) struct ReferenceAnswer {
    pub(super) prompt: String,
    /// How an answer begins that anyone would accept.
    pub(super) accepted: String,
    pub(super) prompt_tokens: Vec<u32>,
    /// The answer's tokens, each of which is clearly more likely than any other.
    pub(super) tokens: Vec<u32>,
    /// Their log probabilities.
    pub(super) logprobs: Vec<f32>,
    /// Their text.
    pub(super) text: String,
}

impl ReferenceAnswer {
    /// All of them.
    pub(super) fn all() -> Result<Vec<Self>> {
        Ok(serde_json::from_str(include_str!(
            "../../reference/real_model.json"
        ))?)
    }
}
