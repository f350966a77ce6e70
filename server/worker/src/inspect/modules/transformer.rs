//! What the sentence-transformers library does with a text before the transformer gets it.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{
    failure::{Failure, truncated},
    inspect::{
        files,
        modules::names::{LONGEST, SENTENCE_TRANSFORMERS_CONFIG},
    },
};

/// Files of which the first that there is says how the transformer is used.
const SETTINGS: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// The file that says how long a text may be where none of them does.
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// Their fields that change what is computed, with the text at which they do not.
const REFUSED: [(&str, &str); 7] = [
    ("do_lower_case", ""),
    ("transformer_task", "feature-extraction"),
    ("processing_kwargs", ""),
    ("query_length", ""),
    ("document_length", ""),
    ("query_expansion", ""),
    ("tokenizer_name_or_path", ""),
];

/// What is done with a text before the transformer gets it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TransformerSettings {
    /// Tokens behind which texts are cut, and the field that says so.
    pub(super) longest: Option<(u32, String)>,
}

impl TransformerSettings {
    /// Reads the files of the model in this directory, whose tokenizer_config.json sets this `model_max_length`.
    pub(super) fn read(directory: &Path, model_max_length: Option<u64>) -> Result<Self, Failure> {
        let (file, settings) = settings(directory)?;
        check(file, &settings)?;
        check_prompt(&optional(directory, SENTENCE_TRANSFORMERS_CONFIG)?.unwrap_or_default())?;
        let by_library = settings.get("max_seq_length").and_then(Value::as_u64);
        let by_tokenizer = || longest(model_max_length, "model_max_length", TOKENIZER_CONFIG);
        let longest = longest(by_library, "max_seq_length", file).or_else(by_tokenizer);
        Ok(Self { longest })
    }
}

fn optional(directory: &Path, name: &str) -> Result<Option<Map<String, Value>>, Failure> {
    files::read_json_if_there(&directory.join(name), files::MAX_MODULE_FILE)
}

fn settings(directory: &Path) -> Result<(&'static str, Map<String, Value>), Failure> {
    for file in SETTINGS {
        if let Some(fields) = optional(directory, file)?.filter(|fields| !fields.is_empty()) {
            return Ok((file, fields));
        }
    }
    Ok((SETTINGS[0], Map::new()))
}

fn check(file: &str, settings: &Map<String, Value>) -> Result<(), Failure> {
    let counts = |value: &Value, plain: &str| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Object(fields) => !fields.is_empty(),
        Value::String(text) => text != plain,
        _ => true,
    };
    for (name, plain) in REFUSED {
        if let Some(value) = settings.get(name).filter(|value| counts(value, plain)) {
            return Err(Failure::unusable(format!(
                "{file} sets {name} to {}, which this version of Hangar does not follow. The file is as it should be: load \
                 another model, or a variant of this one without that.",
                truncated(&value.to_string(), LONGEST)
            )));
        }
    }
    Ok(())
}

fn longest(most: Option<u64>, name: &str, file: &str) -> Option<(u32, String)> {
    let most = most.filter(|most| *most > 0)?;
    let most = u32::try_from(most).ok()?;
    Some((most, format!("{name} of {file}")))
}

/// Refuses a prompt that the library puts before every text: here, it is the caller's to write.
fn check_prompt(mark: &Map<String, Value>) -> Result<(), Failure> {
    let Some(name) = mark.get("default_prompt_name").and_then(Value::as_str) else {
        return Ok(());
    };
    let prompt = mark.get("prompts").and_then(|prompts| prompts.get(name));
    match prompt.and_then(Value::as_str) {
        Some("") => Ok(()),
        // These two are there by themselves.
        None if matches!(name, "query" | "document") => Ok(()),
        _ => Err(Failure::unusable(format!(
            "{SENTENCE_TRANSFORMERS_CONFIG} sets default_prompt_name to {:?}, by which the reference puts a prompt \
             before every text, and Hangar does not. Set it to null: then what is put before a text is the caller's to write.",
            truncated(name, LONGEST)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(files: &[(&str, Value)]) -> Result<TransformerSettings, String> {
        read_with(files, None)
    }

    fn read_with(
        files: &[(&str, Value)],
        model_max_length: Option<u64>,
    ) -> Result<TransformerSettings, String> {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, fields) in files {
            std::fs::write(directory.path().join(name), fields.to_string()).expect("a file");
        }
        TransformerSettings::read(directory.path(), model_max_length)
            .map_err(|failure| failure.message)
    }

    /// As version 6.2 of the library writes it.
    fn written() -> Value {
        let text = json!({"method": "forward", "method_output_name": "last_hidden_state"});
        json!({
            "transformer_task": "feature-extraction", "modality_config": {"text": text},
            "module_output_name": "token_embeddings",
        })
    }

    #[bounded::test]
    fn the_longest_text_is_that_of_the_library_else_of_the_tokenizer() {
        let longest = |files: &[_], of_tokenizer| {
            let settings = read_with(files, of_tokenizer).expect("settings");
            settings.longest
        };
        assert_eq!(longest(&[], None), None);
        let by_tokenizer = (512, "model_max_length of tokenizer_config.json".to_owned());
        let written = (SETTINGS[0], written());
        assert_eq!(longest(&[written], Some(512)), Some(by_tokenizer));
        let bound = json!({"max_seq_length": 128, "do_lower_case": false});
        let by_library = (128, format!("max_seq_length of {}", SETTINGS[0]));
        assert_eq!(
            longest(&[(SETTINGS[0], bound)], Some(512)),
            Some(by_library)
        );
        for endless in [0, 1 << 32, u64::MAX] {
            assert_eq!(longest(&[], Some(endless)), None);
        }
    }

    #[bounded::test]
    fn what_changes_texts_is_refused_by_name() {
        for (name, value) in [
            ("do_lower_case", json!(true)),
            ("transformer_task", json!("fill-mask")),
            ("processing_kwargs", json!({"text": {"padding": false}})),
        ] {
            let mut fields = written();
            fields[name] = value;
            let error = read(&[(SETTINGS[0], fields)]).expect_err(name);
            assert!(
                error.contains(name) && error.contains(SETTINGS[0]),
                "{error}"
            );
        }
    }

    #[bounded::test]
    fn a_prompt_before_every_text_is_refused() {
        let prompts = json!({"query": "Find: ", "document": ""});
        let of = |name: Value| {
            let mark = json!({"prompts": prompts, "default_prompt_name": name});
            read(&[(SENTENCE_TRANSFORMERS_CONFIG, mark)]).map(|_| ())
        };
        assert_eq!(of(json!(null)), Ok(()));
        assert_eq!(of(json!("document")), Ok(()));
        for name in ["query", "other"] {
            let error = of(json!(name)).expect_err(name);
            assert!(
                error.contains("default_prompt_name") && error.contains(name),
                "{error}"
            );
        }
    }
}
