//! What happened to the prompts of a model.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    model::{DeviceName, FatalPrompt, Spec, optional_text},
    version::VERSION,
};

/// What happened to the prompts of one engine: lengths, and digests of what the engine is. Never a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LearnedPrompts {
    /// What the engine is built from, and by which release.
    engine: String,
    /// The files that it was built from. Empty where they cannot be looked at.
    pub files: String,
    /// The device that it was on; `None`: nobody has noted it.
    #[serde(with = "optional_text")]
    pub device: Option<DeviceName>,
    /// Length of the longest prompt that was read, in tokens.
    #[serde(rename = "longest_read")]
    pub longest_prefilled: u64,
    /// Workers that ended with prompts of different lengths, one each: the shortest one.
    pub suspect: Option<FatalPrompt>,
    /// A prompt that is not to be read again.
    pub fatal: Option<FatalPrompt>,
}

impl LearnedPrompts {
    /// Nothing has happened to those of an engine of `spec`.
    pub fn of(spec: &Spec) -> Self {
        Self {
            engine: engine(spec),
            ..Self::default()
        }
    }

    /// Whether they are those of an engine that `spec` makes.
    pub fn is_of(&self, spec: &Spec) -> bool {
        self.engine == engine(spec)
    }

    /// As [`Self::known`], if they are those of an engine that `spec` makes.
    pub fn known_of(&self, spec: &Spec) -> Option<FatalPrompt> {
        self.known().filter(|_| self.is_of(spec))
    }

    /// What is not to be read again, else what ended a worker once.
    pub fn known(&self) -> Option<FatalPrompt> {
        self.fatal.or(self.suspect)
    }
}

/// A digest that engines of other inputs, or of another release, do not have.
fn engine(spec: &Spec) -> String {
    let mut digest = Sha256::new().chain_update(VERSION);
    // What has no JSON is not distinguished: no field of a spec is such.
    if let Ok(inputs) = serde_json::to_vec(&spec.engine_inputs()) {
        digest.update(inputs);
    }
    format!("{:x}", digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Source;

    #[bounded::test]
    fn prompts_are_those_of_what_the_engine_is_built_from() {
        let spec = Spec::of(Source::Path("/m".into()));
        let prompts = LearnedPrompts::of(&spec);
        let renamed = Spec {
            display_name: "another".to_owned(),
            priority: 7,
            ..spec.clone()
        };
        assert!(prompts.is_of(&spec) && prompts.is_of(&renamed));
        let shorter = Spec {
            context_length: Some(64),
            ..spec
        };
        assert!(!prompts.is_of(&shorter));
        assert!(!LearnedPrompts::default().is_of(&shorter));
    }
}
