//! What the engine gets of a model's tokens, and what it is not left to: the tokenizer, the defaults of generation,
//! the chat template, and the tokens that end an answer.
//!
//! The engine panics on some of these files and takes others for something else, so it gets files that are made
//! here of what the reference reads in them.

use std::path::Path;

use either::Either;
use mistralrs::core::ChatTemplate;
use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;

use super::{directory_files::DirectoryFiles, files, tokenizer};
use crate::failure::Failure;

/// Longest file in bytes.
const MAX_FILE: u64 = 16 << 20;

/// Fields of generation_config.json that are used, and what they hold.
const GENERATION: [(&str, ValueKind); 8] = [
    ("do_sample", ValueKind::Flag),
    ("temperature", ValueKind::Number),
    ("top_k", ValueKind::Count),
    ("top_p", ValueKind::Number),
    ("min_p", ValueKind::Number),
    ("repetition_penalty", ValueKind::Number),
    ("max_new_tokens", ValueKind::Count),
    ("max_length", ValueKind::Count),
];

#[derive(Clone, Copy)]
enum ValueKind {
    Flag,
    Number,
    /// A whole number; none where it is zero or less.
    Count,
}

/// What there is to know about a model's tokens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Language {
    /// tokenizer.json for the engine.
    pub(crate) tokenizer: Vec<u8>,
    /// Fields of a generation_config.json.
    pub(crate) generation: Map<String, Value>,
    /// The chat template and the tokens that it knows, as a tokenizer_config.json.
    pub(crate) chat: Map<String, Value>,
    /// Tokens that end an answer.
    pub(crate) ends: Vec<u32>,
    /// One of them by which the engine can be told of the end, if it can.
    pub(crate) engine_end: Option<u32>,
    /// The tokenizer's own tokens at the beginning of a text are put before conversations, too.
    pub(crate) begins_chats: bool,
    /// Class of the tokenizer, if a file names it.
    pub(crate) class: Option<String>,
}

impl Language {
    /// Reads the files of a directory, and makes the tokenizer.
    pub(super) fn read(found: &DirectoryFiles) -> Result<(Self, Tokenizer), Failure> {
        let config = match &found.tokenizer_config {
            Some(path) => files::read_json(path, MAX_FILE)?,
            None => Map::new(),
        };
        let chat = chat(&config, found)?;
        let written = tokenizer::rewritten(&found.tokenizer, &config, &chat)?;
        let made = tokenizer::make(&found.tokenizer, &written)?;
        if let Some(end) = chat.get("eos_token").and_then(Value::as_str)
            && made.token_to_id(end).is_none()
        {
            return Err(Failure::unusable(format!(
                "The eos_token {end} of tokenizer_config.json is no token of {}. Get the files that belong \
                 together.",
                files::name(&found.tokenizer)
            )));
        }
        let generation = match &found.generation_config {
            Some(path) => files::read_json(path, MAX_FILE)?,
            None => Map::new(),
        };
        let class = config.get("tokenizer_class").and_then(Value::as_str);
        let language = Self {
            tokenizer: written,
            ends: ends_in(&generation, &made)?,
            generation: defaults(&generation)?,
            chat,
            class: class.map(ToOwned::to_owned),
            ..Self::default()
        };
        Ok((language, made))
    }

    /// Adds what config.json says of ends where generation_config.json says nothing, then what tokenizer_config.json
    /// says. `by_token`: the engine may be told of an end by its token, which is in no prompt's midst.
    pub(super) fn settle_ends(&mut self, config: &Value, made: &Tokenizer, by_token: bool) {
        if self.ends.is_empty() {
            self.ends = known(ids(config), made).collect();
        }
        if self.ends.is_empty() {
            let end = self.chat.get("eos_token").and_then(Value::as_str);
            self.ends = end
                .and_then(|end| made.token_to_id(end))
                .into_iter()
                .collect();
        }
        // The engine looks for a token by the text that it decodes to.
        let same = |id: &u32| {
            let text = made.decode(&[*id], false).ok()?;
            (made.token_to_id(&text)? == *id).then_some(*id)
        };
        self.engine_end = self.ends.iter().find_map(same).filter(|_| by_token);
    }

    /// generation_config.json for the engine.
    pub(crate) fn generation_config(&self) -> Value {
        let mut fields = self.generation.clone();
        if let Some(end) = self.engine_end {
            fields.insert("eos_token_id".into(), end.into());
        }
        fields.into()
    }
}

/// The chat template and the tokens that it knows.
fn chat(
    config: &Map<String, Value>,
    found: &DirectoryFiles,
) -> Result<Map<String, Value>, Failure> {
    let mut chat = Map::new();
    for name in ["bos_token", "eos_token", "unk_token"] {
        let token = match config.get(name) {
            Some(Value::Object(token)) => token.get("content"),
            token => token,
        };
        if let Some(token @ Value::String(_)) = token {
            chat.insert(name.into(), token.clone());
        }
    }
    if let Some(template) = template(config, found)? {
        chat.insert("chat_template".into(), template);
    }
    Ok(chat)
}

fn template(config: &Map<String, Value>, found: &DirectoryFiles) -> Result<Option<Value>, Failure> {
    if let Some(path) = &found.template {
        return files::read_text(path, MAX_FILE).map(|text| Some(text.into()));
    }
    match config.get("chat_template") {
        Some(Value::String(template)) => return Ok(Some(template.as_str().into())),
        Some(Value::Array(named)) => {
            let is_text = |value: &Value| {
                value
                    .as_object()
                    .is_some_and(|it| it.values().all(Value::is_string))
            };
            let named: Vec<&Value> = named.iter().filter(|value| is_text(value)).collect();
            return Ok(Some(json!(named)));
        }
        _ => {}
    }
    match &found.template_json {
        Some(path) => template_in(path).map(|text| Some(text.into())),
        None => Ok(None),
    }
}

/// The template in a chat_template.json.
pub(super) fn template_in(path: &Path) -> Result<String, Failure> {
    let fields: Map<String, Value> = files::read_json(path, MAX_FILE)?;
    match fields.get("chat_template") {
        Some(Value::String(template)) => Ok(template.clone()),
        _ => Err(Failure::unusable(format!(
            "{} has no chat_template. Get the file that belongs to the model.",
            files::name(path)
        ))),
    }
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

/// The ends that generation_config.json names.
fn ends_in(generation: &Map<String, Value>, made: &Tokenizer) -> Result<Vec<u32>, Failure> {
    let ids = ids(generation.get("eos_token_id").unwrap_or(&Value::Null));
    match ids.iter().find(|id| made.id_to_token(**id).is_none()) {
        None => Ok(ids),
        Some(id) => Err(Failure::unusable(format!(
            "The eos_token_id {id} of generation_config.json is no token of tokenizer.json. Get the files that \
             belong together."
        ))),
    }
}

/// The defaults of generation that are used.
fn defaults(given: &Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    let mut fields = Map::new();
    for (name, holds) in GENERATION {
        let Some(value) = given.get(name).filter(|value| !value.is_null()) else {
            continue;
        };
        let wrong = || {
            Failure::unusable(format!(
                "generation_config.json is malformed: it sets {name} to {value}. Correct it or take it out."
            ))
        };
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

/// The template for conversations without tools.
pub(crate) fn template_source(template: &ChatTemplate) -> Option<String> {
    match &template.chat_template.as_ref()?.0 {
        Either::Left(source) => Some(source.clone()),
        Either::Right(named) => named
            .iter()
            .find_map(|entry| match entry.get("name") {
                Some(name) if name == "default" => entry.get("template").cloned(),
                Some(_) => None,
                None => entry.get("default").cloned(),
            })
            .or_else(|| named.last()?.get("template").cloned()),
    }
}
