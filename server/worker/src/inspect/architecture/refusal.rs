//! Refusals of values in a config.json.

use serde_json::Value;

use crate::failure::Failure;

/// Why a value of config.json is refused.
pub(super) fn refused(field: &str, value: &Value, architecture: &str) -> Failure {
    Failure::unusable(format!(
        "config.json sets {field} to {}, which the engine (mistral.rs {}) does not compute for {architecture}. \
         The file is as it should be: load another model, or a variant of this one without that.",
        shown(value),
        crate::version::ENGINE_VERSION
    ))
}

/// The beginning of a value.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
