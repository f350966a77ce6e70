//! What the engine gets of a model's tokens, and what it is not left to: the tokenizer, the defaults of generation,
//! the special tokens, and the tokens that end an answer.
//!
//! The engine panics on some of these files and takes others for something else, so it gets files that are made
//! here of what the reference reads in them.

use std::path::PathBuf;

use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use super::{
    chat_templates::Templates,
    directory_files::DirectoryFiles,
    files,
    generation::{GenerationFields, TokenDefaults},
    tokenizer::{self, Rewritten, TokenizerSidecars},
};
use crate::failure::Failure;

/// Longest file in bytes.
const MAX_FILE: u64 = 16 << 20;

/// What is known of how a model reads and writes text.
#[derive(Debug, Clone, Default)]
pub(crate) struct TextSettings {
    /// tokenizer.json for the engine.
    pub(crate) tokenizer: Vec<u8>,
    /// Fields of a generation_config.json.
    pub(crate) generation: Map<String, Value>,
    /// What the files say of the tokens of every answer.
    pub(crate) token_defaults: TokenDefaults,
    /// Texts of the special tokens by their names, such as bos_token: chat templates know them.
    pub(crate) special: Map<String, Value>,
    /// The chat templates.
    pub(crate) templates: Templates,
    /// Tokens that end an answer.
    pub(crate) eos_token_ids: Vec<u32>,
    /// One of them that the engine can be given as the end, if there is one.
    pub(crate) engine_eos_token: Option<u32>,
    /// The tokenizer's own tokens at the beginning of a text are put before conversations, too.
    pub(crate) add_bos_to_chats: bool,
    /// Class of the tokenizer, if a file names it.
    pub(crate) class: Option<String>,
    /// `model_max_length` of tokenizer_config.json, if it is one.
    pub(super) model_max_length: Option<u64>,
}

impl TextSettings {
    /// Reads the files of a directory, and makes the tokenizer. What there is to know of answers is read of a model that
    /// gives some.
    pub(super) fn read(
        found: &DirectoryFiles,
        answers: bool,
    ) -> Result<(Self, Tokenizer), Failure> {
        let read = |path: &Option<PathBuf>| match path {
            Some(path) => files::read_json(path, MAX_FILE),
            None => Ok(Map::new()),
        };
        let model: Map<String, Value> = files::read_json(&found.config, MAX_FILE)?;
        let of_model = |name: &str| Some(model.get(name)?.as_str()?.to_owned());
        let sidecars = TokenizerSidecars {
            config: read(&found.tokenizer_config)?,
            special: read(&found.special_tokens_map)?,
            added: read(&found.added_tokens)?,
            model_type: of_model("model_type"),
            model_class: of_model("tokenizer_class"),
            written_by: of_model("transformers_version"),
        };
        let rewritten = Rewritten::of(&found.tokenizer, sidecars)?;
        let (written, config) = (rewritten.tokenizer, &rewritten.sidecars.config);
        let special = special(&rewritten.sidecars);
        let made = tokenizer::make(&found.tokenizer, &written)?;
        let generation = match (answers, &found.generation_config) {
            (true, None) => GenerationFields::of_config(&model),
            (true, path) => GenerationFields::of_generation_config(read(path)?),
            (false, _) => GenerationFields::of_generation_config(Map::new()),
        };
        generation.check()?;
        let class = config.get("tokenizer_class").and_then(Value::as_str);
        let text_settings = Self {
            tokenizer: written,
            eos_token_ids: eos_from_generation_config(&generation, &made)?,
            generation: generation.defaults()?,
            token_defaults: generation.token_defaults()?,
            templates: Templates::read(found, config)?,
            special,
            class: class.map(ToOwned::to_owned),
            model_max_length: config.get("model_max_length").and_then(Value::as_u64),
            ..Self::default()
        };
        Ok((text_settings, made))
    }

    /// Takes the tokens that end an answer from config.json where generation_config.json names none, then from
    /// tokenizer_config.json. `by_token`: the engine may be given one of them, as it is in no prompt's midst.
    pub(super) fn resolve_eos_tokens(&mut self, config: &Value, made: &Tokenizer, by_token: bool) {
        if self.eos_token_ids.is_empty() {
            self.eos_token_ids = known(ids(config), made).collect();
        }
        if self.eos_token_ids.is_empty() {
            let end = self.special.get("eos_token").and_then(Value::as_str);
            self.eos_token_ids = end
                .and_then(|end| made.token_to_id(end))
                .into_iter()
                .collect();
        }
        // The engine looks for a token by the text that it decodes to.
        let same = |id: &u32| {
            let text = made.decode(&[*id], false).ok()?;
            (made.token_to_id(&text)? == *id).then_some(*id)
        };
        self.engine_eos_token = self
            .eos_token_ids
            .iter()
            .find_map(same)
            .filter(|_| by_token);
    }

    /// generation_config.json for the engine.
    pub(crate) fn generation_config(&self) -> Value {
        let mut fields = self.generation.clone();
        if let Some(end) = self.engine_eos_token {
            fields.insert("eos_token_id".into(), end.into());
        }
        fields.into()
    }
}

/// The special tokens as transformers has them in `special_tokens_map`: every field of tokenizer_config.json whose name
/// ends in _token, those of extra_special_tokens if they have names, and, where the file does not list the added
/// tokens, those of special_tokens_map.json.
fn special(sidecars: &TokenizerSidecars) -> Map<String, Value> {
    let config = &sidecars.config;
    let mut special = Map::new();
    let mut add = |fields: &Map<String, Value>| {
        for (name, token) in fields {
            let token = match token {
                Value::Object(token) => token.get("content").unwrap_or(&Value::Null),
                token => token,
            };
            if token.is_string() && name.ends_with("_token") {
                special.insert(name.clone(), token.clone());
            }
        }
    };
    add(config);
    if !sidecars.listed() {
        add(&sidecars.special);
    }
    if let Some(Value::Object(named)) = config.get("extra_special_tokens") {
        add(named);
    }
    special
}

/// Ids of tokens, as one or as a list.
fn ids(value: &Value) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(list) => list.iter().filter_map(id).collect(),
        one => id(one).into_iter().collect(),
    }
}

fn known(ids: Vec<u32>, made: &Tokenizer) -> impl Iterator<Item = u32> {
    let is_known = |id: &u32| made.id_to_token(*id).is_some();
    ids.into_iter().filter(is_known)
}

/// The tokens that end an answer by generation_config.json.
fn eos_from_generation_config(
    generation: &GenerationFields,
    made: &Tokenizer,
) -> Result<Vec<u32>, Failure> {
    let ids = ids(generation.eos_token_ids());
    match ids.iter().find(|id| made.id_to_token(**id).is_none()) {
        None => Ok(ids),
        Some(id) => Err(Failure::unusable(format!(
            "The eos_token_id {id} of generation_config.json is no token of tokenizer.json. Get the files that \
             belong together."
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is read of an embedding model with this tokenizer_config.json.
    fn read(tokenizer_config: &Value) -> TextSettings {
        let directory = tempfile::tempdir().expect("a directory");
        let written = |name: &str, fields: &Value| {
            let path = directory.path().join(name);
            std::fs::write(&path, fields.to_string()).expect("a file");
            path
        };
        let model = json!({"type": "BPE", "vocab": {"a": 0}, "merges": []});
        let found = DirectoryFiles {
            directory: directory.path().to_owned(),
            config: written("config.json", &json!({})),
            tokenizer: written("tokenizer.json", &json!({"version": "1.0", "model": model})),
            tokenizer_config: Some(written("tokenizer_config.json", tokenizer_config)),
            ..DirectoryFiles::default()
        };
        TextSettings::read(&found, false).expect("settings").0
    }

    #[bounded::test]
    fn the_longest_text_of_a_tokenizer_config_above_a_mebibyte_is_read() {
        // As large as that of a real Gemma.
        let padding = "x".repeat(1_157_007);
        let fields = json!({"model_max_length": 2048, "padding": padding});
        assert_eq!(read(&fields).model_max_length, Some(2048));
        for none in [json!({}), json!({"model_max_length": 1e30})] {
            assert_eq!(read(&none).model_max_length, None);
        }
    }
}
