//! An adapter's adapter_config.json, as PEFT writes it.

use std::path::Path;

use serde_json::{Map, Value};

use super::super::files;
use crate::failure::Failure;

/// Longest adapter_config.json in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// Larger ranks than any adapter has: what claims more is broken.
const MAX_RANK: u64 = 65_536;

/// What the engine leaves out, by the field that asks for it.
const UNKNOWN_TO_ENGINE: [(&str, &str); 10] = [
    ("use_dora", "it is a DoRA adapter"),
    ("fan_in_fan_out", "its layers are transposed"),
    ("lora_bias", "it has biases"),
    (
        "rank_pattern",
        "some of its layers have a rank of their own",
    ),
    (
        "alpha_pattern",
        "some of its layers have a scale of their own",
    ),
    ("modules_to_save", "it replaces whole modules"),
    ("trainable_token_indices", "it replaces tokens"),
    (
        "target_parameters",
        "it changes parameters that are no layers",
    ),
    ("layer_replication", "it repeats layers"),
    (
        "alora_invocation_tokens",
        "it is for parts of a prompt only",
    ),
];

/// Ways to initialise that leave the model's weights as they are; others change these, and the adapter holds
/// only the rest.
const HARMLESS_STARTS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// What an adapter_config.json says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AdapterConfig {
    /// At least 1.
    pub(super) rank: u64,
    /// What the product of the matrices is multiplied with.
    pub(super) scale: f64,
    /// Name of the model that it was trained for, if it is one and not a path.
    pub(super) base: Option<String>,
    /// Ends of the names of the layers that it changes; `None` where that is a pattern.
    pub(super) targets: Option<Vec<String>>,
    /// It changes only some of these layers.
    pub(super) partial: bool,
}

impl AdapterConfig {
    /// Reads the file and checks that the engine knows all that it asks for.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let fields: Map<String, Value> = files::read_json(path, MAX_CONFIG)?;
        Self::from_fields(&fields).map_err(Failure::unusable)
    }

    fn from_fields(fields: &Map<String, Value>) -> Result<Self, String> {
        refuse_unknown(fields)?;
        let rank = fields
            .get("r")
            .and_then(Value::as_u64)
            .filter(|rank| (1..=MAX_RANK).contains(rank))
            .ok_or_else(|| invalid("r", "the rank, a whole number from 1"))?;
        let alpha = fields
            .get("lora_alpha")
            .and_then(Value::as_f64)
            .filter(|alpha| alpha.is_finite() && *alpha != 0.0)
            .ok_or_else(|| invalid("lora_alpha", "a number other than 0"))?;
        #[allow(clippy::cast_precision_loss)]
        let size = rank as f64;
        let divisor = if is_set(fields, "use_rslora") {
            size.sqrt()
        } else {
            size
        };
        Ok(Self {
            rank,
            scale: alpha / divisor,
            base: fields
                .get("base_model_name_or_path")
                .and_then(Value::as_str)
                .filter(|name| !name.is_empty() && !name.starts_with(['/', '.', '~']))
                .map(ToOwned::to_owned),
            targets: targets(fields)?,
            partial: ["layers_to_transform", "layers_pattern", "exclude_modules"]
                .iter()
                .any(|field| is_set(fields, field)),
        })
    }
}

fn invalid(field: &str, what: &str) -> String {
    format!(
        "its adapter_config.json has no usable {field}, which is {what}. Get an intact copy of the file."
    )
}

/// Names of the layers, or `None` for a pattern: what the file with the weights holds says enough.
fn targets(fields: &Map<String, Value>) -> Result<Option<Vec<String>>, String> {
    let names = || invalid("target_modules", "a list of the layers' names");
    match fields.get("target_modules") {
        Some(Value::String(_)) => Ok(None),
        Some(Value::Array(all)) if !all.is_empty() => all
            .iter()
            .map(|name| name.as_str().map(ToOwned::to_owned).ok_or_else(names))
            .collect::<Result<_, _>>()
            .map(Some),
        _ => Err(names()),
    }
}

fn refuse_unknown(fields: &Map<String, Value>) -> Result<(), String> {
    let ignored = |what: &str| {
        format!(
            "{what}, which the engine does not know. Merge it into its model, or train it as plain LoRA."
        )
    };
    let text = |field: &str| fields.get(field).and_then(Value::as_str);
    if let Some(other) = text("peft_type").filter(|kind| *kind != "LORA") {
        return Err(ignored(&format!("its type is {other} and not LORA")));
    }
    for (field, what) in UNKNOWN_TO_ENGINE {
        if is_set(fields, field) {
            return Err(ignored(&format!("{what} ({field})")));
        }
    }
    if let Some(bias) = text("bias").filter(|bias| *bias != "none") {
        return Err(ignored(&format!("it changes biases (bias: {bias})")));
    }
    if let Some(start) = text("init_lora_weights").filter(|start| !HARMLESS_STARTS.contains(start))
    {
        return Err(ignored(&format!(
            "it is for changed weights (init_lora_weights: {start})"
        )));
    }
    let other = fields
        .keys()
        .find(|name| name.starts_with("use_") && *name != "use_rslora" && is_set(fields, name));
    match other {
        Some(name) => Err(ignored(&format!("it asks for {name}"))),
        None => Ok(()),
    }
}

/// Whether a field says more than that there is nothing.
fn is_set(fields: &Map<String, Value>, name: &str) -> bool {
    match fields.get(name) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Bool(true)) => true,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(all)) => !all.is_empty(),
        Some(Value::Object(all)) => !all.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plain() -> Value {
        json!({
            "peft_type": "LORA", "r": 16, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"],
            "bias": "none", "use_dora": false, "use_rslora": false, "modules_to_save": null,
            "rank_pattern": {}, "init_lora_weights": true, "base_model_name_or_path": "Qwen/Qwen3-0.6B",
        })
    }

    fn read(change: Value) -> Result<AdapterConfig, String> {
        let mut config = plain();
        if let (Some(fields), Value::Object(change)) = (config.as_object_mut(), change) {
            fields.extend(change);
        }
        AdapterConfig::from_fields(config.as_object().expect("an object"))
    }

    #[bounded::test]
    fn a_plain_adapter_is_read() {
        let config = read(json!({})).expect("a plain adapter");
        assert_eq!((config.rank, config.scale), (16, 0.5));
        assert_eq!(config.base.as_deref(), Some("Qwen/Qwen3-0.6B"));
        let targets = config.targets.expect("targets");
        assert_eq!(targets, ["q_proj", "v_proj"]);
        assert!(!config.partial);
    }

    #[bounded::test]
    fn rank_stabilised_adapters_get_their_scale() {
        let config = read(json!({"use_rslora": true})).expect("known");
        assert_eq!((config.rank, config.scale), (16, 2.0));
    }

    #[bounded::test]
    fn what_the_engine_would_leave_out_is_refused_by_name() {
        for (change, word) in [
            (json!({"use_dora": true}), "DoRA"),
            (json!({"peft_type": "IA3"}), "IA3"),
            (json!({"rank_pattern": {"q_proj": 4}}), "rank_pattern"),
            (json!({"alpha_pattern": {"q_proj": 4}}), "alpha_pattern"),
            (json!({"modules_to_save": ["lm_head"]}), "modules_to_save"),
            (json!({"bias": "all"}), "bias: all"),
            (json!({"lora_bias": true}), "lora_bias"),
            (json!({"fan_in_fan_out": true}), "fan_in_fan_out"),
            (json!({"init_lora_weights": "pissa_niter_4"}), "pissa"),
            (json!({"use_qalora": true}), "use_qalora"),
            (
                json!({"trainable_token_indices": [1]}),
                "trainable_token_indices",
            ),
            (json!({"layer_replication": [[0, 4]]}), "layer_replication"),
        ] {
            let error = read(change).expect_err(word);
            assert!(error.contains(word), "{word}: {error}");
        }
    }

    #[bounded::test]
    fn unusable_numbers_are_refused() {
        for change in [
            json!({"r": 0}),
            json!({"r": -4}),
            json!({"r": 1e9}),
            json!({"r": "8"}),
            json!({"r": null}),
            json!({"lora_alpha": 0}),
            json!({"lora_alpha": null}),
            json!({"target_modules": []}),
            json!({"target_modules": null}),
            json!({"target_modules": [1]}),
        ] {
            assert!(read(change.clone()).is_err(), "{change}");
        }
    }

    #[bounded::test]
    fn patterns_and_parts_are_left_to_the_weights() {
        assert_eq!(
            read(json!({"target_modules": ".*q_proj"})).map(|config| config.targets),
            Ok(None)
        );
        let partial = read(json!({"layers_to_transform": [1]})).expect("known");
        assert!(partial.partial);
    }
}
