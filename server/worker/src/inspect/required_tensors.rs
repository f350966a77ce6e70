//! Whether the tensors of a model's files are those that the engine reads: what is missing is named, and so is what
//! the engine would leave out.

use std::collections::BTreeSet;

use super::model_config::ModelConfig;
use crate::failure::Failure;

/// Ends of the names of tensors that the reference does not read either: what older versions of it stored, and can
/// be computed.
const UNNEEDED: [&str; 5] = [
    ".rotary_emb.inv_freq",
    ".attn.bias",
    ".attn.masked_bias",
    ".self_attn.masked_bias",
    "position_ids",
];

/// The head, of which a copy is often stored where it is the embedding.
const HEAD: &str = "lm_head.weight";

/// Checks the names of the files' tensors against those that the engine reads.
pub(super) fn check(
    needed: &[String],
    there: &BTreeSet<String>,
    model: &ModelConfig,
) -> Result<(), Failure> {
    let missing: Vec<&str> = needed
        .iter()
        .filter(|name| !there.contains(*name))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        let why = match missing[..] {
            [HEAD] => " since config.json does not set tie_word_embeddings",
            _ => "",
        };
        return Err(Failure::unusable(format!(
            "The model's safetensors have no {}, which {} needs{why}. Get the files of weights and the config.json \
             that belong together.",
            list(&missing),
            model.architecture
        )));
    }
    let needed: BTreeSet<&str> = needed.iter().map(String::as_str).collect();
    let left_out: Vec<&str> = there
        .iter()
        .map(String::as_str)
        .filter(|name| !needed.contains(name) && !is_unneeded(name, model.shape.layers))
        .collect();
    if left_out.is_empty() {
        return Ok(());
    }
    Err(Failure::unusable(format!(
        "The model's safetensors have {}, which the engine (mistral.rs {}) does not compute for {}. The files are as \
         they should be: load another model, or a variant of this one without that.",
        list(&left_out),
        crate::version::ENGINE_VERSION,
        model.architecture
    )))
}

fn is_unneeded(name: &str, layers: u64) -> bool {
    // Layers behind the last predict further tokens, for which nobody asks.
    let layer = name
        .strip_prefix("model.layers.")
        .and_then(|rest| rest.split('.').next());
    let beyond = layer
        .and_then(|layer| layer.parse().ok())
        .is_some_and(|layer: u64| layer >= layers);
    name == HEAD || beyond || UNNEEDED.iter().any(|end| name.ends_with(end))
}

fn list(names: &[&str]) -> String {
    let first = names[..names.len().min(3)].join(", ");
    match names.len().saturating_sub(3) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(needed: &[&str], there: &[&str]) -> Result<(), String> {
        let needed: Vec<String> = needed.iter().map(|name| (*name).to_owned()).collect();
        let there = there.iter().map(|name| (*name).to_owned()).collect();
        let mut model = ModelConfig {
            architecture: "LlamaForCausalLM".into(),
            ..ModelConfig::default()
        };
        model.shape.layers = 2;
        check(&needed, &there, &model).map_err(|failure| failure.message)
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = checked(&["a", "lm_head.weight"], &["a"]).expect_err("missing");
        assert!(
            error.contains("lm_head.weight") && error.contains("tie_word"),
            "{error}"
        );
        let error = checked(&["a", "b", "c", "d", "e"], &[]).expect_err("missing");
        assert!(error.contains("a, b, c and 2 more"), "{error}");
    }

    #[test]
    fn an_unknown_tensor_that_the_engine_would_ignore_is_named() {
        let bias = "model.layers.0.self_attn.q_proj.bias";
        let error = checked(&["a"], &["a", bias]).expect_err("left out");
        assert!(error.contains(bias), "{error}");
    }

    #[test]
    fn known_tensors_that_the_engine_does_not_read_are_no_error() {
        let there = [
            "a",
            "lm_head.weight",
            "model.layers.0.self_attn.rotary_emb.inv_freq",
            "model.layers.2.eh_proj.weight",
        ];
        assert_eq!(checked(&["a"], &there), Ok(()));
    }
}
