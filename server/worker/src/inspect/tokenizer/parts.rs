//! Parts of a tokenizer.json that several tokenizers have: what cuts a text, and what puts it together.

use serde_json::{Value, json};

/// What stands for a space.
pub(super) const SPACE: &str = "▁";

/// Writes bytes as characters and back, and cuts as GPT-2 does if `cuts`. `prefix`: with a space at the beginning.
pub(in crate::inspect) fn byte_level(prefix: bool, cuts: bool) -> Value {
    json!({
        "type": "ByteLevel",
        "add_prefix_space": prefix,
        "trim_offsets": true,
        "use_regex": cuts,
    })
}

/// Cuts at what matches, which is a piece itself.
pub(in crate::inspect) fn split(regex: &str) -> Value {
    json!({
        "type": "Split",
        "pattern": {"Regex": regex},
        "behavior": "Isolated",
        "invert": false,
    })
}

/// What puts pieces together, without the space at the beginning if `strip`.
pub(in crate::inspect) fn joined(strip: bool) -> Value {
    let strip = strip.then(|| json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    let decoders = [
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    let decoders: Vec<Value> = decoders.into_iter().chain(strip).collect();
    json!({"type": "Sequence", "decoders": decoders})
}
