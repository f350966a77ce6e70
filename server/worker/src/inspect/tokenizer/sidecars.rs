//! The files beside tokenizer.json.

use serde_json::{Map, Value};

/// The field with the list of the added tokens.
const ADDED_TOKENS: &str = "added_tokens_decoder";

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

impl TokenizerSidecars {
    /// Whether tokenizer_config.json has a list of the added tokens, of whatever form: then special_tokens_map.json does
    /// not count.
    pub(in crate::inspect) fn listed(&self) -> bool {
        self.config.contains_key(ADDED_TOKENS)
    }

    /// That list, by ids, if it is one.
    pub(super) fn list(&self) -> Option<&Map<String, Value>> {
        self.config.get(ADDED_TOKENS)?.as_object()
    }
}
