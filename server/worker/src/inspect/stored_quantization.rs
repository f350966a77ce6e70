//! Weights that are stored quantized. The engine computes the formats of some quantizers otherwise than the reference,
//! and others not at all: 4-bit numbers of bitsandbytes get every second scale on CPUs, and biases twice.

use serde_json::{Map, Value};

use super::config_fields;
use crate::failure::Failure;

/// The field that says it, of the model or of its text half.
const FIELD: &str = "quantization_config";

/// Refuses a model whose config.json says that its weights are stored quantized. One that is null or empty says nothing,
/// as in the reference.
pub(super) fn check(fields: &Map<String, Value>) -> Result<(), Failure> {
    let counts = |value: &&Value| match value {
        Value::Null => false,
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    };
    let Some(config) = config_fields::values(fields, FIELD).find(counts) else {
        return Ok(());
    };
    let method = match config.get("quant_method").and_then(Value::as_str) {
        Some(method) => format!("stored quantized by {method}"),
        None => "stored quantized".into(),
    };
    Err(Failure::unusable(format!(
        "config.json says in {FIELD} that the weights are {method}, which the engine (mistral.rs {}) does not compute as \
         the reference does. The file is as it should be: load the model that they were made from. The spec's \
         quantization makes it small, too.",
        crate::version::ENGINE_VERSION
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(fields: Value) -> Result<(), String> {
        let fields = fields.as_object().cloned().unwrap_or_default();
        check(&fields).map_err(|failure| failure.message)
    }

    #[bounded::test]
    fn weights_that_are_stored_quantized_are_refused_by_the_name_of_the_method() {
        for method in [
            "bitsandbytes",
            "gptq",
            "awq",
            "fp8",
            "compressed-tensors",
            "modelopt",
            "torchao",
        ] {
            let config = json!({"quant_method": method, "bits": 4, "group_size": 128});
            for fields in [
                json!({FIELD: config}),
                json!({"text_config": {FIELD: config}}),
            ] {
                let error = checked(fields).expect_err(method);
                assert!(error.contains(FIELD) && error.contains(method), "{error}");
                assert!(!error.contains("Get "), "{error}");
            }
        }
        let without_method = json!({FIELD: {"bits": 4, "group_size": 64}});
        assert!(checked(without_method).is_err());
    }

    #[bounded::test]
    fn a_quantization_that_is_null_or_empty_is_none() {
        for nothing in [json!(null), json!({})] {
            assert_eq!(checked(json!({FIELD: nothing})), Ok(()));
            assert_eq!(checked(json!({"text_config": {FIELD: nothing}})), Ok(()));
        }
    }
}
