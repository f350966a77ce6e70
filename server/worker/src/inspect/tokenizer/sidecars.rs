//! The files beside tokenizer.json.

use serde_json::{Map, Value};

/// What files say of a tokenizer beside tokenizer.json.
#[derive(Debug, Default)]
pub(in crate::inspect) struct TokenizerSidecars {
    /// Fields of tokenizer_config.json.
    pub(in crate::inspect) config: Map<String, Value>,
    /// Those of special_tokens_map.json.
    pub(in crate::inspect) special: Map<String, Value>,
    /// Ids of tokens by their texts: added_tokens.json.
    pub(in crate::inspect) added: Map<String, Value>,
    /// The type of the model, by config.json.
    pub(in crate::inspect) model_type: Option<String>,
    /// The class that config.json names.
    pub(in crate::inspect) model_class: Option<String>,
    /// The version of transformers that wrote config.json.
    pub(in crate::inspect) written_by: Option<String>,
}
