//! The post processor of a tokenizer.json: what it puts around a text.

use serde_json::{Map, Value, json};

/// A post processor with these tokens before and after a text.
pub(in crate::inspect) fn template_processing(
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
