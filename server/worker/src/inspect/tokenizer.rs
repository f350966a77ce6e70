//! tokenizer.json, as the engine gets it.

mod added;
mod class;
mod mistral_regex;
mod other_classes;
mod parts;
mod post_processor;
mod rebuild;
mod sidecars;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use hangar_worker_protocol::v1::WorkerConfig;
use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;

use self::class::Class;
pub(super) use self::{
    parts::{byte_level, joined, split},
    post_processor::template_processing,
    sidecars::TokenizerSidecars,
};
use super::files;
use crate::{
    failure::{Failure, panic_message},
    vocabulary::Decoding,
};

/// Longest tokenizer.json in bytes.
const MAX_TOKENIZER: u64 = 256 << 20;

/// Field with which the reference takes spaces out of texts of tokenizers of the type BPE, too.
const CLEAN_BPE: &str = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output";

/// The tokenizer in place of the model's own, if one is given.
pub(super) fn override_path(config: &WorkerConfig) -> Option<PathBuf> {
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

/// Refuses the tokenizer of the file at `path` if it puts tokens together in a way of which the text of an answer cannot
/// be given as its tokens come.
pub(super) fn check_decoder(path: &Path, made: &Tokenizer) -> Result<(), Failure> {
    match Decoding::of(made) {
        Ok(_) => Ok(()),
        Err(why) => Err(Failure::unusable(format!(
            "{} {why}, so that answers cannot be given as text while they are made. Give the model a tokenizer with \
             another decoder.",
            files::name(path)
        ))),
    }
}

/// A tokenizer as the reference has it once all files are read.
pub(super) struct Rewritten {
    /// tokenizer.json for the engine.
    pub(super) tokenizer: Vec<u8>,
    /// What the files beside it say, with what its class says where they say nothing.
    pub(super) sidecars: TokenizerSidecars,
}

impl Rewritten {
    /// The file as the reference uses it: without cutting and padding, as its class makes it, and with the tokens that the
    /// files beside it add. What it puts around a text is its own: the reference reads neither add_bos_token nor
    /// add_eos_token of tokenizer_config.json where there is a tokenizer.json.
    pub(super) fn of(path: &Path, mut sidecars: TokenizerSidecars) -> Result<Self, Failure> {
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
        check_fields(&fields, &sidecars.config)?;
        if let Some(end) = added::unknown_end(&fields, &sidecars) {
            return Err(Failure::unusable(format!(
                "The eos_token {end} of tokenizer_config.json is no token of {}. Get the files that belong together.",
                files::name(path)
            )));
        }
        let class = Class::of(&fields, &sidecars)?;
        check_type(path, class, &fields)?;
        added::complete_special(class, &mut sidecars);
        rebuild::rebuild(class, &mut fields, &sidecars);
        added::complete(class, &mut fields, &sidecars);
        rebuild::surround(class, &mut fields, &sidecars);
        mistral_regex::fix(&mut fields, &sidecars);
        let tokenizer = serde_json::to_vec(&fields).map_err(|e| malformed(path, &e.to_string()))?;
        Ok(Self {
            tokenizer,
            sidecars,
        })
    }
}

/// Refuses a tokenizer of another type than those of its class.
fn check_type(path: &Path, class: Class, fields: &Map<String, Value>) -> Result<(), Failure> {
    let kind = fields.get("model").and_then(|model| model.get("type"));
    match kind.and_then(Value::as_str) {
        Some(kind) if class != Class::AsWritten && kind != "BPE" => {
            Err(Failure::unusable(format!(
                "{} is of the type {kind}, and the tokenizer_class of the model makes a tokenizer of the type BPE of it. \
                 If the file is right as it is, set tokenizer_class in tokenizer_config.json to \
                 \"PreTrainedTokenizerFast\".",
                files::name(path)
            )))
        }
        _ => Ok(()),
    }
}

/// Refuses what of tokenizer_config.json changes tokens or texts in a way that is not followed.
fn check_fields(
    tokenizer: &Map<String, Value>,
    config: &Map<String, Value>,
) -> Result<(), Failure> {
    let is = |name: &str| config.get(name) == Some(&Value::Bool(true));
    let bpe = tokenizer
        .get("model")
        .is_some_and(|model| model["type"] == "BPE");
    let cleaned = is("clean_up_tokenization_spaces") && (!bpe || is(CLEAN_BPE));
    let named = [
        ("split_special_tokens", is("split_special_tokens")),
        ("clean_up_tokenization_spaces", cleaned),
    ];
    match named.into_iter().find(|(_, wrong)| *wrong) {
        None => Ok(()),
        Some((name, _)) => Err(Failure::unusable(format!(
            "tokenizer_config.json sets {name} to true, which this version of Hangar does not follow. Take the field \
             out, or set it to false: then answers are without it."
        ))),
    }
}

fn malformed(path: &Path, why: &str) -> Failure {
    Failure::unusable(format!(
        "{} is malformed: {why}. Get an intact copy of the file.",
        files::name(path)
    ))
}
