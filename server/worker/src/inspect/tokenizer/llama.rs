//! Tokenizers of the class LlamaTokenizer, of which transformers 5 takes only tokens and merges from tokenizer.json: how a
//! text is cut and put together is the class's own.

use serde_json::{Map, Value, json};

use super::TokenizerSidecars;

/// What stands for a space.
const SPACE: &str = "▁";

/// Types of models for which transformers takes tokenizer.json as it is, whatever class is named.
const AS_WRITTEN: [&str; 6] = [
    "mistral",
    "mixtral",
    "phi3",
    "qwen2",
    "glm4",
    "granitemoehybrid",
];

/// Makes of a tokenizer.json with these fields what the class makes of it, if it is of that class.
pub(super) fn rebuild(fields: &mut Map<String, Value>, sidecars: &TokenizerSidecars) {
    let config = &sidecars.config;
    let class = config.get("tokenizer_class").and_then(Value::as_str);
    let is_llama = matches!(class, Some("LlamaTokenizer" | "LlamaTokenizerFast"));
    if !is_llama || AS_WRITTEN.contains(&&*sidecars.model_type) || has_byte_level(fields) {
        return;
    }
    let Some(model) = fields.get("model").filter(|model| model["type"] == "BPE") else {
        return;
    };
    let model = json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": null,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": true,
        "byte_fallback": true,
        "ignore_merges": false,
        "vocab": model["vocab"],
        "merges": model["merges"],
    });
    let is = |name: &str| config.get(name).and_then(Value::as_bool);
    let prefix = is("add_prefix_space").unwrap_or(true);
    let scheme = match (prefix, is("legacy").unwrap_or(false)) {
        (false, _) => "never",
        (true, true) => "always",
        (true, false) => "first",
    };
    let strip = prefix.then(|| json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    let decoders = [
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    let decoders: Vec<Value> = decoders.into_iter().chain(strip).collect();
    fields.extend([
        ("model".to_owned(), model),
        ("normalizer".to_owned(), Value::Null),
        (
            "pre_tokenizer".to_owned(),
            json!({"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": false}),
        ),
        (
            "decoder".to_owned(),
            json!({"type": "Sequence", "decoders": decoders}),
        ),
    ]);
}

/// Whether a tokenizer cuts or decodes by bytes.
fn has_byte_level(fields: &Map<String, Value>) -> bool {
    fn is(part: &Value) -> bool {
        let inner = ["pretokenizers", "decoders"].into_iter();
        let mut inner = inner
            .filter_map(|name| part.get(name)?.as_array())
            .flatten();
        part.get("type").is_some_and(|kind| kind == "ByteLevel") || inner.any(is)
    }
    let parts = ["pre_tokenizer", "decoder"].into_iter();
    parts.filter_map(|name| fields.get(name)).any(is)
}
