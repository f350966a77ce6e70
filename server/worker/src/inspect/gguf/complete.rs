//! Whether the tokenizer in a GGUF file is whole.

use super::header::{Header, SCORES, Value};
use crate::failure::Failure;

/// Kinds of tokenizers that the engine can make from GGUF.
const TOKENIZERS: [&str; 3] = ["gpt2", "llama", "replit"];

/// What a tokenizer cannot be without.
pub(super) fn check_tokenizer(header: &Header) -> Result<(), Failure> {
    let model = header
        .text("tokenizer.ggml.model")
        .ok_or_else(|| tokenizer_unusable("The file has no tokenizer."))?;
    if !TOKENIZERS.contains(&model) {
        return Err(Failure::unusable(format!(
            "The engine cannot make a tokenizer of the kind {model} from GGUF. Load the model's \
             safetensors."
        )));
    }
    let length = |name: &str| match header.values.get(name) {
        Some(Value::List(length)) => Some(*length),
        Some(Value::Texts(texts)) => Some(texts.len() as u64),
        Some(Value::Scores(scores)) => Some(scores.len() as u64),
        Some(Value::Numbers(numbers)) => Some(numbers.len() as u64),
        _ => None,
    };
    let tokens = length("tokenizer.ggml.tokens")
        .filter(|count| *count > 0)
        .ok_or_else(|| tokenizer_unusable("The file's tokenizer has no tokens."))?;
    match (model, length("tokenizer.ggml.merges"), length(SCORES)) {
        ("gpt2", None, _) => Err(tokenizer_unusable(
            "The file's tokenizer has no tokenizer.ggml.merges.",
        )),
        ("llama" | "replit", _, Some(count)) if count < tokens => Err(tokenizer_unusable(format!(
            "The file's tokenizer has {tokens} tokens but {count} {SCORES}."
        ))),
        _ => check_special_tokens(header, tokens),
    }
}

/// Checks the tokens with a meaning of their own.
fn check_special_tokens(header: &Header, tokens: u64) -> Result<(), Failure> {
    for name in ["eos_token_id", "bos_token_id", "unknown_token_id"] {
        let id = header.number(&format!("tokenizer.ggml.{name}"));
        if let Some(id) = id.filter(|id| *id >= tokens) {
            return Err(tokenizer_unusable(format!(
                "The file's {name} is {id}, but its tokenizer has only {tokens} tokens."
            )));
        }
    }
    Ok(())
}

fn tokenizer_unusable(why: impl AsRef<str>) -> Failure {
    let why = why.as_ref();
    Failure::unusable(format!(
        "{why} Convert the model to GGUF anew, with its tokenizer."
    ))
}
