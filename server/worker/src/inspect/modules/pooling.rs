//! How the vectors of a text's tokens become one.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{failure::Failure, inspect::files};

/// Names of the modes, all of which the engine wants to be given.
pub(super) const MODES: [&str; 6] = [
    "pooling_mode_cls_token",
    "pooling_mode_mean_tokens",
    "pooling_mode_max_tokens",
    "pooling_mode_mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens",
    "pooling_mode_lasttoken",
];

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// By their mean.
    Mean,
    /// The last one is taken.
    LastToken,
}

#[derive(Deserialize)]
struct PoolingConfig {
    word_embedding_dimension: u64,
    include_prompt: bool,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

impl Pooling {
    /// Reads the configuration of a module that pools vectors of `size` numbers.
    pub(super) fn read(path: &Path, size: u64) -> Result<Self, Failure> {
        let config: PoolingConfig =
            files::read_json(path, files::MAX_MODULE_FILE).map_err(of_pooling)?;
        if config.word_embedding_dimension != size {
            return Err(Failure::unusable(format!(
                "The model's pooling is for vectors of {} numbers, but the transformer gives {size}. Get the \
                 files that belong together.",
                config.word_embedding_dimension
            )));
        }
        if !config.include_prompt {
            return Err(unsupported("leaves out the prompt"));
        }
        let mut chosen = Vec::new();
        for mode in MODES {
            match config.fields.get(mode) {
                Some(Value::Bool(true)) => chosen.push(mode),
                Some(Value::Bool(false)) => {}
                _ => {
                    return Err(Failure::unusable(format!(
                        "The config.json of the model's pooling does not say whether {mode} is true or \
                         false. Add it."
                    )));
                }
            }
        }
        match chosen[..] {
            ["pooling_mode_mean_tokens"] => Ok(Self::Mean),
            ["pooling_mode_lasttoken"] => Ok(Self::LastToken),
            [] => Err(unsupported("names no mode")),
            _ => Err(unsupported(&format!("is {}", chosen.join(" and ")))),
        }
    }
}

fn unsupported(what: &str) -> Failure {
    Failure::unusable(format!(
        "The model's pooling {what}, which the engine does not have. Load a model that pools by the mean \
         (pooling_mode_mean_tokens) or takes the last token (pooling_mode_lasttoken)."
    ))
}

/// Names the config.json that a failure is about.
fn of_pooling(failure: Failure) -> Failure {
    Failure {
        message: format!("In the model's pooling: {}", failure.message),
        ..failure
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(change: impl FnOnce(&mut Value)) -> Result<Pooling, String> {
        let mut config = json!({"word_embedding_dimension": 8, "include_prompt": true});
        for mode in MODES {
            config[mode] = json!(mode == "pooling_mode_mean_tokens");
        }
        change(&mut config);
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.json");
        std::fs::write(&path, config.to_string()).expect("a file");
        Pooling::read(&path, 8).map_err(|failure| failure.message)
    }

    #[test]
    fn one_mode_that_the_engine_has_is_needed() {
        assert_eq!(read(|_| {}), Ok(Pooling::Mean));
        for (mode, value, word) in [
            ("pooling_mode_lasttoken", json!(true), " and "),
            ("pooling_mode_mean_tokens", json!(false), "no mode"),
            ("pooling_mode_cls_token", json!("yes"), "true or"),
            ("word_embedding_dimension", json!(9), "9 numbers"),
            ("include_prompt", json!(false), "prompt"),
        ] {
            let error = read(|config| config[mode] = value).expect_err(mode);
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_pooling_mode_that_is_not_given_is_named() {
        let error = read(|config| {
            config
                .as_object_mut()
                .expect("an object")
                .remove("pooling_mode_max_tokens");
        })
        .expect_err("missing");
        assert!(error.contains("pooling_mode_max_tokens"), "{error}");
    }
}
