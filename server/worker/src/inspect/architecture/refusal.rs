//! Refusals of values in a config.json.

use serde_json::Value;

use crate::failure::{Failure, truncated};

/// Why a value of config.json is refused.
pub(super) fn refused(field: &str, value: &Value, architecture: &str) -> Failure {
    Failure::unusable(format!(
        "config.json sets {field} to {}, which the engine (mistral.rs {}) does not compute for {architecture}. \
         The file is as it should be: load another model, or a variant of this one without that.",
        beginning(value),
        crate::version::ENGINE_VERSION
    ))
}

/// The beginning of a value, for a message.
pub(super) fn beginning(value: &Value) -> String {
    truncated(&value.to_string(), 80)
}
