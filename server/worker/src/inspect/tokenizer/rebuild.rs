//! Tokenizers of classes that take only tokens, merges and the post processor from tokenizer.json, as transformers 5 makes
//! them: how a text is cut and put together is the class's own.

use serde_json::{Map, Value, json};

use super::{
    TokenizerSidecars, added,
    class::Class,
    parts::{SPACE, byte_level, joined, split},
    template_processing,
};

/// How Qwen2Tokenizer cuts a text.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How texts are cut and put together.
struct Cuts {
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
}

/// Makes of a tokenizer.json with these fields what the class makes of it. `sidecars` has the class's special tokens.
pub(super) fn rebuild(class: Class, fields: &mut Map<String, Value>, sidecars: &TokenizerSidecars) {
    let is = |name: &str| sidecars.config.get(name).and_then(Value::as_bool);
    let prefix = is("add_prefix_space");
    let cuts = match class {
        Class::AsWritten => return,
        Class::Gpt2 => bytes(prefix.unwrap_or(false), Value::Null),
        Class::GptNeoX => bytes(prefix.unwrap_or(false), json!({"type": "NFC"})),
        Class::Cohere => cohere(prefix.unwrap_or(false)),
        Class::Qwen2 => qwen2(prefix.unwrap_or(false)),
        Class::Gemma => gemma(),
        Class::CodeLlama => {
            let scheme = match prefix {
                Some(false) => "never",
                _ => "first",
            };
            pieces(scheme, true)
        }
        Class::Llama => {
            let prefix = prefix.unwrap_or(true);
            let scheme = match (prefix, is("legacy").unwrap_or(false)) {
                (false, _) => "never",
                (true, true) => "always",
                (true, false) => "first",
            };
            pieces(scheme, prefix)
        }
    };
    let unknown = match class {
        Class::CodeLlama | Class::Gemma => added::content(sidecars, "unk_token"),
        _ => None,
    };
    let by_pieces = matches!(class, Class::CodeLlama | Class::Gemma | Class::Llama);
    let model = fields.remove("model").unwrap_or_default();
    let model = json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": unknown,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": by_pieces,
        "byte_fallback": by_pieces,
        "ignore_merges": false,
        "vocab": model.get("vocab"),
        "merges": model.get("merges").cloned().unwrap_or_else(|| json!([])),
    });
    fields.insert("model".into(), model);
    fields.insert("normalizer".into(), cuts.normalizer);
    fields.insert("pre_tokenizer".into(), cuts.pre_tokenizer);
    fields.insert("decoder".into(), cuts.decoder);
}

/// Puts in what the class puts around a text, where it leaves that to no file. The added tokens have to be there.
pub(super) fn surround(
    class: Class,
    fields: &mut Map<String, Value>,
    sidecars: &TokenizerSidecars,
) {
    let around = match class {
        Class::GptNeoX => Value::Null,
        Class::CodeLlama => {
            let begin = added::content(sidecars, "bos_token");
            let begin = begin.and_then(|text| Some((added::id(fields, &text)?, text)));
            begin.map_or(Value::Null, |(id, text)| {
                let token = json!({"id": text, "ids": [id], "tokens": [text]});
                let special = Map::from_iter([(text.clone(), token)]);
                template_processing(Some(&text), None, special)
            })
        }
        _ => return,
    };
    fields.insert("post_processor".into(), around);
}

fn bytes(prefix: bool, normalizer: Value) -> Cuts {
    Cuts {
        normalizer,
        pre_tokenizer: byte_level(prefix, true),
        decoder: byte_level(true, true),
    }
}

fn cohere(prefix: bool) -> Cuts {
    let digits = json!({"type": "Digits", "individual_digits": true});
    let cuts = [digits, byte_level(prefix, true)];
    Cuts {
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": cuts}),
        ..bytes(prefix, json!({"type": "NFC"}))
    }
}

fn qwen2(prefix: bool) -> Cuts {
    let cuts = [split(QWEN2), byte_level(prefix, false)];
    Cuts {
        normalizer: json!({"type": "NFC"}),
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": cuts}),
        decoder: byte_level(true, true),
    }
}

fn gemma() -> Cuts {
    Cuts {
        normalizer: json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE}),
        pre_tokenizer: json!({
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": false,
        }),
        decoder: joined(false),
    }
}

fn pieces(scheme: &str, strip: bool) -> Cuts {
    Cuts {
        normalizer: Value::Null,
        pre_tokenizer: json!({
            "type": "Metaspace",
            "replacement": SPACE,
            "prepend_scheme": scheme,
            "split": false,
        }),
        decoder: joined(strip),
    }
}
