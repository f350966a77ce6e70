//! generation_config.json: what of it is used, and what is refused by its name because answers would be others. Where there
//! is none, config.json may say the same, as it did before there were such files.
//!
//! What is in neither list changes no answer here: how the reference computes, what it returns beside it, and
//! what it does with several answers at once.

use serde_json::{Map, Value};

use super::config_fields;
use crate::failure::{Failure, truncated};

/// Fields that the engine reads as well, and what they hold.
const READ: [(&str, ValueKind); 8] = [
    ("do_sample", ValueKind::Flag),
    ("temperature", ValueKind::Number),
    ("top_k", ValueKind::Count),
    ("top_p", ValueKind::Number),
    ("min_p", ValueKind::Number),
    ("repetition_penalty", ValueKind::Number),
    ("max_new_tokens", ValueKind::Count),
    ("max_length", ValueKind::Count),
];

/// Fields that change answers and are not followed, with the number at which they do not. They do not when they are
/// null, false or empty, either.
const REFUSED: [(&str, f64); 15] = [
    ("num_beams", 1.0),
    ("num_beam_groups", 1.0),
    ("penalty_alpha", 0.0),
    ("encoder_repetition_penalty", 1.0),
    ("no_repeat_ngram_size", 0.0),
    ("encoder_no_repeat_ngram_size", 0.0),
    ("bad_words_ids", f64::NAN),
    ("sequence_bias", f64::NAN),
    ("force_words_ids", f64::NAN),
    ("forced_bos_token_id", f64::NAN),
    ("forced_eos_token_id", f64::NAN),
    ("exponential_decay_length_penalty", f64::NAN),
    ("guidance_scale", 1.0),
    ("watermarking_config", f64::NAN),
    ("stop_strings", f64::NAN),
];

/// The same, of those that count only where the model samples.
const REFUSED_SAMPLING: [(&str, f64); 4] = [
    ("typical_p", 1.0),
    ("top_h", f64::NAN),
    ("epsilon_cutoff", 0.0),
    ("eta_cutoff", 0.0),
];

/// Longest value in a message.
const LONGEST: usize = 100;

/// Fields of [`TokenDefaults`].
const TOKENS: [&str; 4] = [
    "suppress_tokens",
    "begin_suppress_tokens",
    "min_new_tokens",
    "min_length",
];

/// What a file says of every answer.
#[derive(Debug, Clone)]
pub(super) struct GenerationFields {
    file: &'static str,
    fields: Map<String, Value>,
}

#[derive(Clone, Copy)]
enum ValueKind {
    Flag,
    Number,
    /// A whole number; none where it is zero or less.
    Count,
}

/// What a model's files say of the tokens of every answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TokenDefaults {
    /// Tokens that are never chosen.
    pub(crate) suppress_tokens: Vec<u32>,
    /// Tokens that are not chosen as the first one.
    pub(crate) begin_suppress_tokens: Vec<u32>,
    /// Tokens that an answer has at least.
    pub(crate) min_tokens: u32,
    /// Tokens that a prompt and its answer have at least.
    pub(crate) min_length: u32,
}

impl TokenDefaults {
    /// Tokens that the answer to a prompt of so many has at least.
    pub(crate) fn min_new_tokens(&self, prompt: usize) -> u32 {
        let prompt = u32::try_from(prompt).unwrap_or(u32::MAX);
        self.min_tokens.max(self.min_length.saturating_sub(prompt))
    }
}

impl GenerationFields {
    /// Those of a generation_config.json.
    pub(super) fn of_generation_config(fields: Map<String, Value>) -> Self {
        let file = "generation_config.json";
        Self { file, fields }
    }

    /// Those of a config.json, or else of its text half, that a generation_config.json might have, but for the ends.
    pub(super) fn of_config(config: &Map<String, Value>) -> Self {
        let value = |name: &str| {
            let mut values = config_fields::values(config, name);
            values.find(|value| !value.is_null()).cloned()
        };
        let read = READ.iter().map(|(name, _)| *name);
        let refused = REFUSED.iter().chain(&REFUSED_SAMPLING);
        let names = read.chain(refused.map(|(name, _)| *name)).chain(TOKENS);
        let fields = names.filter_map(|name| Some((name.to_owned(), value(name)?)));
        Self {
            file: "config.json",
            fields: fields.collect(),
        }
    }

    /// The tokens that end an answer.
    pub(super) fn eos_token_ids(&self) -> &Value {
        self.fields.get("eos_token_id").unwrap_or(&Value::Null)
    }

    /// What they say of the tokens of every answer.
    pub(super) fn token_defaults(&self) -> Result<TokenDefaults, Failure> {
        let given = &self.fields;
        let list = |name: &str| match given.get(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(all)) => {
                let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
                // A negative one is no token's.
                let known = all
                    .iter()
                    .filter(|value| value.as_i64().is_none_or(|id| id >= 0));
                let ids: Option<Vec<u32>> = known.map(id).collect();
                ids.ok_or_else(|| self.malformed(name, &given[name]))
            }
            Some(value) => Err(self.malformed(name, value)),
        };
        let count = |name: &str| match given.get(name) {
            None | Some(Value::Null) => Ok(0),
            Some(value) => value
                .as_u64()
                .map(|count| u32::try_from(count).unwrap_or(u32::MAX))
                .ok_or_else(|| self.malformed(name, value)),
        };
        let [suppress, begin_suppress, min_tokens, min_length] = TOKENS;
        Ok(TokenDefaults {
            suppress_tokens: list(suppress)?,
            begin_suppress_tokens: list(begin_suppress)?,
            min_tokens: count(min_tokens)?,
            min_length: count(min_length)?,
        })
    }

    /// The fields that the engine reads, each of which holds what it has to hold.
    pub(super) fn defaults(&self) -> Result<Map<String, Value>, Failure> {
        let mut fields = Map::new();
        for (name, holds) in READ {
            let Some(value) = self.fields.get(name).filter(|value| !value.is_null()) else {
                continue;
            };
            let wrong = || self.malformed(name, value);
            match holds {
                ValueKind::Flag => {
                    value.as_bool().ok_or_else(wrong)?;
                    fields.insert(name.into(), value.clone());
                }
                ValueKind::Number => {
                    value.as_f64().ok_or_else(wrong)?;
                    fields.insert(name.into(), value.clone());
                }
                ValueKind::Count => {
                    let number = value.as_f64().filter(|number| number.fract() == 0.0);
                    let number = number.ok_or_else(wrong)?;
                    if number >= 1.0 {
                        let count = value.as_u64().unwrap_or(u32::MAX.into());
                        fields.insert(name.into(), count.min(u32::MAX.into()).into());
                    }
                }
            }
        }
        Ok(fields)
    }

    /// Refuses what is not followed.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let greedy = self.fields.get("do_sample") == Some(&Value::Bool(false));
        let sampling = REFUSED_SAMPLING.iter().filter(|_| !greedy);
        for (name, neutral) in REFUSED.iter().chain(sampling) {
            let value = self.fields.get(*name);
            if let Some(value) = value.filter(|value| counts(value, *neutral)) {
                return Err(Failure::unusable(format!(
                    "{} sets {name} to {}, which this version of Hangar does not follow. Take the field out: then \
                     answers are without it.",
                    self.file,
                    truncated(&value.to_string(), LONGEST)
                )));
            }
        }
        Ok(())
    }

    fn malformed(&self, name: &str, value: &Value) -> Failure {
        Failure::unusable(format!(
            "{} is malformed: it sets {name} to {}. Correct it or take it out.",
            self.file,
            truncated(&value.to_string(), LONGEST)
        ))
    }
}

fn counts(value: &Value, neutral: f64) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Number(number) => number.as_f64() != Some(neutral),
        Value::Bool(true) | Value::String(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    fn fields(value: Value) -> GenerationFields {
        GenerationFields::of_generation_config(object(value))
    }

    #[bounded::test]
    fn what_changes_answers_is_refused_by_name_unless_it_is_off() {
        for (name, on, off) in [
            ("num_beams", json!(4), json!(1)),
            ("no_repeat_ngram_size", json!(3), json!(0)),
            ("bad_words_ids", json!([[1]]), json!([])),
            ("sequence_bias", json!([[[1], 2.0]]), json!({})),
            ("forced_bos_token_id", json!(0), Value::Null),
            ("typical_p", json!(0.9), json!(1.0)),
            ("watermarking_config", json!({"bias": 2.5}), Value::Null),
        ] {
            let error = fields(json!({name: on})).check().expect_err(name);
            assert!(error.message.contains(name), "{error}");
            assert_eq!(fields(json!({name: off})).check(), Ok(()), "{name}");
        }
        let greedy = json!({"do_sample": false, "typical_p": 0.9});
        assert_eq!(fields(greedy).check(), Ok(()));
    }

    #[bounded::test]
    fn a_config_says_what_no_generation_config_does() {
        let of = |value| GenerationFields::of_config(&object(value));
        let config = json!({
            "suppress_tokens": [5], "min_length": null, "temperature": 0.5, "eos_token_id": 4,
            "text_config": {"suppress_tokens": [6], "min_length": 3, "do_sample": false},
        });
        let expected = TokenDefaults {
            suppress_tokens: vec![5],
            min_length: 3,
            ..TokenDefaults::default()
        };
        assert_eq!(of(config.clone()).token_defaults(), Ok(expected));
        let defaults = json!({"temperature": 0.5, "do_sample": false});
        assert_eq!(of(config.clone()).defaults(), Ok(object(defaults)));
        assert_eq!(of(config).eos_token_ids(), &Value::Null);
        let error = of(json!({"bad_words_ids": [[1]]})).check();
        let error = error.expect_err("is not followed");
        assert!(
            error.message.starts_with("config.json sets bad_words_ids"),
            "{error}"
        );
    }

    #[bounded::test]
    fn tokens_of_every_answer_are_read() {
        let given = json!({
            "suppress_tokens": [-1, 5], "begin_suppress_tokens": [6], "min_new_tokens": 2, "min_length": null,
        });
        let expected = TokenDefaults {
            suppress_tokens: vec![5],
            begin_suppress_tokens: vec![6],
            min_tokens: 2,
            min_length: 0,
        };
        assert_eq!(fields(given).token_defaults(), Ok(expected));
        let wrong = fields(json!({"suppress_tokens": "x"})).token_defaults();
        let error = wrong.expect_err("no list");
        assert!(error.message.contains("suppress_tokens"), "{error}");
    }
}
