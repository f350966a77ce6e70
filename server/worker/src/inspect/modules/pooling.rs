//! How the vectors of a text's tokens become one.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{failure::Failure, inspect::files};

/// The modes: their names, and those of the flags by which older versions of the library have each.
const MODES: [(&str, &str); 6] = [
    ("cls", "pooling_mode_cls_token"),
    ("mean", "pooling_mode_mean_tokens"),
    ("max", "pooling_mode_max_tokens"),
    ("mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens"),
    ("weightedmean", "pooling_mode_weightedmean_tokens"),
    ("lasttoken", "pooling_mode_lasttoken"),
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
    #[serde(alias = "word_embedding_dimension")]
    embedding_dimension: u64,
    #[serde(default = "is_included")]
    include_prompt: bool,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

fn is_included() -> bool {
    true
}

impl PoolingConfig {
    /// The modes that it names: by one field, or by flags.
    fn modes(&self) -> Result<Vec<&str>, Failure> {
        const MODE: &str = "pooling_mode";
        let wrong = |name: &str, value: &Value| {
            Failure::unusable(format!(
                "The config.json of the model's pooling sets {name} to {value}. Get the file that belongs to the model."
            ))
        };
        match self.fields.get(MODE) {
            None => {}
            Some(Value::String(mode)) => return Ok(vec![mode.as_str()]),
            Some(Value::Array(modes)) => {
                let texts: Option<Vec<&str>> = modes.iter().map(Value::as_str).collect();
                return texts.ok_or_else(|| wrong(MODE, &self.fields[MODE]));
            }
            Some(value) => return Err(wrong(MODE, value)),
        }
        let mut modes = Vec::new();
        for (mode, flag) in MODES {
            match self.fields.get(flag) {
                Some(Value::Bool(true)) => modes.push(mode),
                Some(Value::Bool(false)) | None => {}
                Some(value) => return Err(wrong(flag, value)),
            }
        }
        Ok(match modes.is_empty() {
            true => vec!["mean"],
            false => modes,
        })
    }
}

impl Pooling {
    /// Reads the configuration of a module that pools vectors of `size` numbers, in either of its forms.
    pub(super) fn read(path: &Path, size: u64) -> Result<Self, Failure> {
        let config: PoolingConfig =
            files::read_json(path, files::MAX_MODULE_FILE).map_err(of_pooling)?;
        if config.embedding_dimension != size {
            return Err(Failure::unusable(format!(
                "The model's pooling is for vectors of {} numbers, but the transformer gives {size}. Get the \
                 files that belong together.",
                config.embedding_dimension
            )));
        }
        if !config.include_prompt {
            return Err(unsupported("leaves out the prompt"));
        }
        match config.modes()?[..] {
            ["mean"] => Ok(Self::Mean),
            ["lasttoken"] => Ok(Self::LastToken),
            ref modes => Err(unsupported(&format!("is {}", modes.join(" and ")))),
        }
    }

    /// Its config.json for the engine, which wants every flag of the older form, for vectors of `size` numbers.
    pub(super) fn for_engine(self, size: u64) -> Value {
        let chosen = match self {
            Self::Mean => "mean",
            Self::LastToken => "lasttoken",
        };
        let flags = MODES.iter();
        let flags = flags.map(|(mode, flag)| ((*flag).to_owned(), (*mode == chosen).into()));
        let mut fields: Map<String, Value> = flags.collect();
        fields.insert("word_embedding_dimension".into(), size.into());
        fields.insert("include_prompt".into(), true.into());
        fields.into()
    }
}

fn unsupported(what: &str) -> Failure {
    Failure::unusable(format!(
        "The model's pooling {what}, which the engine does not have. Load a model that pools by the mean \
         (\"mean\") or takes the last token (\"lasttoken\")."
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

    fn read(config: &Value) -> Result<Pooling, String> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.json");
        std::fs::write(&path, config.to_string()).expect("a file");
        Pooling::read(&path, 8).map_err(|failure| failure.message)
    }

    /// As versions of the library before 6 write it.
    fn older(flag: &str) -> Value {
        let mut config = json!({"word_embedding_dimension": 8, "include_prompt": true});
        for (_, name) in MODES {
            config[name] = json!(name == flag);
        }
        config
    }

    #[bounded::test]
    fn both_forms_are_read_and_the_engine_gets_the_older() {
        for (mode, flag, pooling) in [
            ("mean", "pooling_mode_mean_tokens", Pooling::Mean),
            ("lasttoken", "pooling_mode_lasttoken", Pooling::LastToken),
        ] {
            assert_eq!(read(&older(flag)), Ok(pooling));
            let newer =
                json!({"embedding_dimension": 8, "pooling_mode": mode, "include_prompt": true});
            assert_eq!(read(&newer), Ok(pooling));
            let listed = json!({"embedding_dimension": 8, "pooling_mode": [mode]});
            assert_eq!(read(&listed), Ok(pooling));
            assert_eq!(pooling.for_engine(8), older(flag));
        }
    }

    #[bounded::test]
    fn what_is_not_said_is_as_the_library_has_it() {
        assert_eq!(
            read(&json!({"word_embedding_dimension": 8})),
            Ok(Pooling::Mean)
        );
        let last = json!({"embedding_dimension": 8, "pooling_mode_lasttoken": true});
        assert_eq!(read(&last), Ok(Pooling::LastToken));
    }

    #[bounded::test]
    fn pooling_other_than_in_one_mode_of_the_engine_is_refused() {
        for (field, value, word) in [
            ("pooling_mode_lasttoken", json!(true), "mean and lasttoken"),
            (
                "pooling_mode_cls_token",
                json!("yes"),
                "pooling_mode_cls_token",
            ),
            ("pooling_mode", json!("cls"), "is cls"),
            ("pooling_mode", json!(["mean", "max"]), "mean and max"),
            ("pooling_mode", json!(7), "pooling_mode"),
            ("word_embedding_dimension", json!(9), "9 numbers"),
            ("include_prompt", json!(false), "prompt"),
        ] {
            let mut config = older("pooling_mode_mean_tokens");
            config[field] = value;
            let error = read(&config).expect_err(field);
            assert!(error.contains(word), "{error}");
        }
    }
}
