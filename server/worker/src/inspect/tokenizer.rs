//! The files around a tokenizer: what the engine would panic on is found here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use hangar_client::worker::v1::WorkerConfig;
use mistralrs::core::ChatTemplate;
use serde::Deserialize;
use serde_json::Value;
use tokenizers::Tokenizer;

use super::files;
use crate::failure::{Failure, panic_message};

/// Longest tokenizer.json in bytes.
const MAX_TOKENIZER: u64 = 256 << 20;

/// Longest other file in bytes.
const MAX_FILE: u64 = 16 << 20;

/// The tokenizer in place of the model's own, if one is given.
pub(super) fn given(config: &WorkerConfig) -> Option<PathBuf> {
    (!config.tokenizer.is_empty()).then(|| PathBuf::from(&config.tokenizer))
}

/// Makes the tokenizer of this file.
pub(super) fn read_tokenizer(path: &Path) -> Result<Tokenizer, Failure> {
    let bytes = files::read(path, MAX_TOKENIZER)?;
    let made = catch_unwind(AssertUnwindSafe(|| Tokenizer::from_bytes(&bytes)));
    let why = match made {
        Ok(Ok(tokenizer)) => return Ok(tokenizer),
        Ok(Err(e)) => e.to_string(),
        Err(panic) => panic_message(&*panic),
    };
    Err(malformed(path, &why))
}

/// Checks a tokenizer_config.json, and gives the class of the tokenizer.
pub(super) fn check_tokenizer_config(
    path: &Path,
    tokenizer: &Tokenizer,
) -> Result<Option<String>, Failure> {
    #[derive(Deserialize)]
    struct Class {
        tokenizer_class: Option<Value>,
    }
    // The engine's own type: what does not fit makes it panic.
    let template: ChatTemplate = files::read_json(path, MAX_FILE)?;
    if let Some(end) = template.eos_tok()
        && tokenizer.token_to_id(&end).is_none()
    {
        return Err(Failure::unusable(format!(
            "The eos_token {end} of {} is no token of tokenizer.json. Get the files that belong \
             together.",
            files::name(path)
        )));
    }
    let class: Class = files::read_json(path, MAX_FILE)?;
    let name = class.tokenizer_class.as_ref().and_then(Value::as_str);
    Ok(name.map(ToOwned::to_owned))
}

/// Checks a generation_config.json: the engine would ignore all of one with a field of a wrong type, and
/// panic on an end token that is none.
pub(super) fn check_generation_config(path: &Path, tokenizer: &Tokenizer) -> Result<(), Failure> {
    let config: GenerationConfig = files::read_json(path, MAX_FILE)?;
    let ends = match config.eos_token_id {
        None => Vec::new(),
        Some(Ids::One(id)) => vec![id],
        Some(Ids::Many(ids)) => ids,
    };
    let known = |id: &u32| tokenizer.id_to_token(*id).is_some();
    match ends.iter().find(|id| !known(id)) {
        None => Ok(()),
        Some(id) => Err(Failure::unusable(format!(
            "The eos_token_id {id} of {} is no token of tokenizer.json. Get the files that belong \
             together.",
            files::name(path)
        ))),
    }
}

/// Fields that the engine reads, in the types that it reads them as.
#[derive(Deserialize)]
struct GenerationConfig {
    eos_token_id: Option<Ids>,
    #[serde(rename = "bos_token_id")]
    _bos_token_id: Option<Ids>,
    #[serde(rename = "do_sample")]
    _do_sample: Option<bool>,
    #[serde(rename = "temperature")]
    _temperature: Option<f64>,
    #[serde(rename = "top_k")]
    _top_k: Option<usize>,
    #[serde(rename = "top_p")]
    _top_p: Option<f64>,
    #[serde(rename = "min_p")]
    _min_p: Option<f64>,
    #[serde(rename = "repetition_penalty")]
    _repetition_penalty: Option<f32>,
    #[serde(rename = "max_new_tokens")]
    _max_new_tokens: Option<usize>,
    #[serde(rename = "max_length")]
    _max_length: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Many(Vec<u32>),
}

/// Checks a chat template in a JSON file.
pub(super) fn check_template_json(path: &Path) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Template {
        #[serde(rename = "chat_template")]
        _chat_template: String,
    }
    let _: Template = files::read_json(path, MAX_FILE)?;
    Ok(())
}

/// Checks a chat template in a file of its own.
pub(super) fn check_template(path: &Path) -> Result<(), Failure> {
    let bytes = files::read(path, MAX_FILE)?;
    std::str::from_utf8(&bytes)
        .map(|_| ())
        .map_err(|e| malformed(path, &e.to_string()))
}

fn malformed(path: &Path, why: &str) -> Failure {
    Failure::unusable(format!(
        "{} is malformed: {why}. Get an intact copy of the file.",
        files::name(path)
    ))
}
