//! `fix_mistral_regex` of tokenizer_config.json: with it transformers 5 cuts texts otherwise than tokenizer.json says, in
//! directories of Mistral's that an older version wrote.

use serde_json::{Map, Value, json};

use super::{
    TokenizerSidecars, added,
    parts::{byte_level, split},
};

/// How Mistral's Tekken cuts a text.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Tokenizers with so many tokens are not Tekken.
const FEW: usize = 100_000;

/// Types of models that may have it.
const MODEL_TYPES: [&str; 5] = ["mistral", "mistral3", "ministral", "pixtral", "voxtral"];

/// Puts the pattern into a tokenizer.json with these fields, if tokenizer_config.json asks for it.
pub(super) fn fix(fields: &mut Map<String, Value>, sidecars: &TokenizerSidecars) {
    let asked = sidecars
        .config
        .get("fix_mistral_regex")
        .is_some_and(is_true);
    let of_mistral = sidecars
        .model_type
        .as_deref()
        .is_none_or(|it| MODEL_TYPES.contains(&it));
    let old = sidecars.written_by.as_deref().is_none_or(is_before_5);
    if !asked || !of_mistral || !old || added::size(fields) <= FEW {
        return;
    }
    let split = split(TEKKEN);
    let written = fields.get("pre_tokenizer").filter(|it| !it.is_null());
    let Some(written) = written.cloned() else {
        return;
    };
    let kind = written.get("type").and_then(Value::as_str);
    let all = match (kind, written.get("pretokenizers").and_then(Value::as_array)) {
        (Some("Sequence"), Some(all)) => {
            let rest = all.iter().skip(1).cloned();
            [split].into_iter().chain(rest).collect()
        }
        (Some("Metaspace"), _) => vec![split, byte_level(false, false)],
        _ => vec![split, written],
    };
    let cuts = json!({"type": "Sequence", "pretokenizers": all});
    fields.insert("pre_tokenizer".into(), cuts);
}

/// Whether Python takes the value for true.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// Whether a version of transformers is older than 5.0.0, as its previews are.
fn is_before_5(version: &str) -> bool {
    let major = version.split('.').next().unwrap_or_default();
    match major.parse::<u64>() {
        Ok(5) => [
            "5.0.0.dev",
            "5.0.0a",
            "5.0.0b",
            "5.0.0rc",
            "5.0.0.rc",
            "5.0.0-",
        ]
        .iter()
        .any(|early| version.starts_with(early)),
        Ok(major) => major < 5,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn previews_of_version_5_are_before_it() {
        for version in [
            "4.57.3",
            "3.0",
            "5.0.0.dev0",
            "5.0.0rc1",
            "5.0.0.rc2",
            "5.0.0b1",
        ] {
            assert!(is_before_5(version), "{version}");
        }
        for version in ["5.0.0", "5", "5.24.0", "5.1.0.dev0", "10.0"] {
            assert!(!is_before_5(version), "{version}");
        }
    }
}
