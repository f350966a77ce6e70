//! Prompts that end workers.

use serde::{Deserialize, Serialize};

use super::Reason;

/// A prompt that ended workers while they read it. Nothing of what it said is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FatalPrompt {
    /// Its length in tokens.
    pub tokens: u64,
    /// How the last of them ended.
    pub reason: Reason,
    /// How many have. It may have been by chance as long as that is one.
    pub deaths: u32,
}
