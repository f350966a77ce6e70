//! What a request gets where it does not say otherwise.

use serde::{Deserialize, Serialize};

/// What a request gets where it does not say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerationDefaults {
    /// Sampling parameters.
    pub sampling: Sampling,
    /// Longest answer in tokens.
    pub max_tokens: Option<u32>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
}

/// How an answer is made, as far as its request or the defaults say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationSettings {
    /// Sampling parameters.
    pub sampling: Sampling,
    /// Texts that end the answer.
    pub stop: Vec<String>,
}

/// How the next token is chosen; each in the range that `hangar.v1.Sampling` gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields are those of hangar.v1.Sampling")]
pub struct Sampling {
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<u32>,
    pub min_p: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    pub repetition_penalty: Option<f32>,
}

impl GenerationSettings {
    /// These settings, which are a request's own, with `defaults` where it says nothing. The longest answer is not among
    /// them: a worker chooses it, by the length of the prompt.
    #[must_use]
    pub fn or(self, defaults: &GenerationDefaults) -> Self {
        Self {
            sampling: self.sampling.or(defaults.sampling),
            stop: match self.stop.is_empty() {
                true => defaults.stop.clone(),
                false => self.stop,
            },
        }
    }
}

impl Sampling {
    /// These parameters, with those of `fallback` where they say nothing.
    #[must_use]
    pub fn or(self, fallback: Self) -> Self {
        Self {
            temperature: self.temperature.or(fallback.temperature),
            top_p: self.top_p.or(fallback.top_p),
            top_k: self.top_k.or(fallback.top_k),
            min_p: self.min_p.or(fallback.min_p),
            frequency_penalty: self.frequency_penalty.or(fallback.frequency_penalty),
            presence_penalty: self.presence_penalty.or(fallback.presence_penalty),
            repetition_penalty: self.repetition_penalty.or(fallback.repetition_penalty),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn what_a_request_says_goes_before_the_defaults() {
        let defaults = GenerationDefaults {
            sampling: Sampling {
                temperature: Some(0.5),
                top_k: Some(4),
                ..Sampling::default()
            },
            max_tokens: Some(9),
            stop: vec!["default".to_owned()],
        };
        let asked = GenerationSettings {
            sampling: Sampling {
                temperature: Some(0.0),
                ..Sampling::default()
            },
            stop: vec!["asked".to_owned()],
        };
        let settings = asked.clone().or(&defaults);
        assert_eq!(settings.sampling.temperature, Some(0.0));
        assert_eq!(settings.sampling.top_k, Some(4));
        assert_eq!(settings.stop, asked.stop);
        let settings = GenerationSettings::default().or(&defaults);
        assert_eq!(settings.sampling, defaults.sampling);
        assert_eq!(settings.stop, defaults.stop);
    }
}
