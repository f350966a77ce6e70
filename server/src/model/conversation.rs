//! What conversations with a model may have.

use serde::{Deserialize, Serialize};

/// What conversations with a model may have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConversationSupport {
    /// Messages.
    pub messages: Support,
    /// Functions that the model may ask to be called.
    pub tools: Support,
    /// Images in messages.
    pub images: Support,
    /// Thinking, separated from the answer.
    pub thinking: Support,
}

/// Whether a model takes something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Support {
    /// It does.
    pub supported: bool,
    /// Why it does not.
    pub why_not: String,
}
