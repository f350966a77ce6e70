//! tokenizer.json, as the engine gets it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use hangar_worker_protocol::v1::WorkerConfig;
use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;

use super::files;
use crate::failure::{Failure, panic_message};

/// Longest tokenizer.json in bytes.
const MAX_TOKENIZER: u64 = 256 << 20;

/// The tokenizer in place of the model's own, if one is given.
pub(super) fn given(config: &WorkerConfig) -> Option<PathBuf> {
    (!config.spec().tokenizer.is_empty()).then(|| PathBuf::from(&config.spec().tokenizer))
}

/// Makes a tokenizer of what was read in the file at `path`.
pub(super) fn make(path: &Path, written: &[u8]) -> Result<Tokenizer, Failure> {
    let made = catch_unwind(AssertUnwindSafe(|| Tokenizer::from_bytes(written)));
    let why = match made {
        Ok(Ok(tokenizer)) => return Ok(tokenizer),
        Ok(Err(e)) => e.to_string(),
        Err(panic) => panic_message(&*panic),
    };
    Err(malformed(path, &why))
}

/// The file as the reference uses it, for the engine: without cutting and padding, and with the special tokens
/// that tokenizer_config.json says are added, whose fields are `config`; `chat` has the special tokens' texts.
pub(super) fn rewritten(
    path: &Path,
    config: &Map<String, Value>,
    chat: &Map<String, Value>,
) -> Result<Vec<u8>, Failure> {
    let mut fields: Map<String, Value> = files::read_json(path, MAX_TOKENIZER)?;
    fields.insert("truncation".into(), Value::Null);
    fields.insert("padding".into(), Value::Null);
    fields.entry("added_tokens").or_insert_with(|| json!([]));
    let vocabulary = fields.get("model").and_then(|model| model.get("vocab"));
    if vocabulary.is_some_and(Value::is_array) {
        return Err(Failure::unusable(format!(
            "{} is of the type Unigram, which the engine (mistral.rs {}) cannot read. Load another model, or \
             give it a tokenizer of the type BPE.",
            files::name(path),
            crate::version::ENGINE_VERSION
        )));
    }
    if ["add_bos_token", "add_eos_token"]
        .iter()
        .any(|name| config.contains_key(*name))
        && let Some(around) = around(&fields, config, chat)
    {
        fields.insert("post_processor".into(), around);
    }
    serde_json::to_vec(&fields).map_err(|e| malformed(path, &e.to_string()))
}

/// What puts tokens around a text as add_bos_token and add_eos_token say, which count alone where one is given.
fn around(
    fields: &Map<String, Value>,
    config: &Map<String, Value>,
    chat: &Map<String, Value>,
) -> Option<Value> {
    let token = |flag: &str, name: &str| {
        (config.get(flag) == Some(&Value::Bool(true))).then(|| chat.get(name)?.as_str())?
    };
    let (before, after) = (
        token("add_bos_token", "bos_token"),
        token("add_eos_token", "eos_token"),
    );
    let added = fields.get("added_tokens")?.as_array()?;
    let id = |text: &str| {
        let entry = added.iter().find(|entry| entry["content"] == text);
        entry
            .map(|entry| &entry["id"])
            .or_else(|| fields.get("model")?.get("vocab")?.get(text))
    };
    let mut special = Map::new();
    for text in before.iter().chain(&after) {
        let token = json!({"id": text, "ids": [id(text)?], "tokens": [text]});
        special.insert((*text).into(), token);
    }
    Some(template_processing(before, after, special))
}

/// A post processor with these tokens before and after a text.
pub(super) fn template_processing(
    before: Option<&str>,
    after: Option<&str>,
    special: Map<String, Value>,
) -> Value {
    let piece = |text: &str, kind: u8| json!({"SpecialToken": {"id": text, "type_id": kind}});
    let around = |name: &str, kind: u8| {
        let text = json!({"Sequence": {"id": name, "type_id": kind}});
        let before = before.map(|text| piece(text, kind));
        let after = after.map(|text| piece(text, kind));
        before.into_iter().chain([text]).chain(after)
    };
    json!({
        "type": "TemplateProcessing",
        "single": around("A", 0).collect::<Vec<_>>(),
        "pair": around("A", 0).chain(around("B", 1)).collect::<Vec<_>>(),
        "special_tokens": special,
    })
}

fn malformed(path: &Path, why: &str) -> Failure {
    Failure::unusable(format!(
        "{} is malformed: {why}. Get an intact copy of the file.",
        files::name(path)
    ))
}
