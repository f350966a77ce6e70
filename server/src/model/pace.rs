//! How quickly an engine works.

use serde::{Deserialize, Serialize};

/// How quickly an engine works, in tokens a second. What was not seen is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pace {
    /// Tokens of prompts that it reads.
    pub prompt_tokens_per_second: Option<f64>,
    /// Tokens of answers that it makes.
    pub generated_tokens_per_second: Option<f64>,
}

/// Change of a pace that is worth a note.
const SIGNIFICANT_CHANGE: f64 = 0.05;

impl Pace {
    /// This pace, and what only `other` knows.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            prompt_tokens_per_second: self
                .prompt_tokens_per_second
                .or(other.prompt_tokens_per_second),
            generated_tokens_per_second: self
                .generated_tokens_per_second
                .or(other.generated_tokens_per_second),
        }
    }

    /// Whether it says more than `other`, or something else.
    pub fn differs_from(self, other: Self) -> bool {
        let differ = |one: Option<f64>, other: Option<f64>| match (one, other) {
            (Some(one), Some(other)) => (one - other).abs() > other.abs() * SIGNIFICANT_CHANGE,
            (one, other) => one.is_some() != other.is_some(),
        };
        differ(
            self.prompt_tokens_per_second,
            other.prompt_tokens_per_second,
        ) || differ(
            self.generated_tokens_per_second,
            other.generated_tokens_per_second,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn small_changes_are_not_reported() {
        let pace = |prompt, generated| Pace {
            prompt_tokens_per_second: prompt,
            generated_tokens_per_second: generated,
        };
        assert!(!pace(Some(100.0), None).differs_from(pace(Some(101.0), None)));
        assert!(pace(Some(100.0), None).differs_from(pace(Some(150.0), None)));
        assert!(pace(Some(100.0), Some(1.0)).differs_from(pace(Some(100.0), None)));
        let known = pace(Some(1.0), None).or(pace(Some(2.0), Some(3.0)));
        assert_eq!(known, pace(Some(1.0), Some(3.0)));
    }
}
