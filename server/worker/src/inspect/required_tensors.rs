//! Whether the tensors of a model's files are those that the engine reads: what is missing is named, and so is what
//! the engine would leave out.

use std::collections::BTreeSet;

use super::{architecture::RequiredTensors, model_config::ModelConfig};
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

/// What names begin with that some versions of the reference gave to the text halves of multimodal models.
const INNER: &str = "model.language_model.";

/// Checks the names of the files' tensors against those that the engine reads.
pub(super) fn check(there: &BTreeSet<String>, model: &ModelConfig) -> Result<(), Failure> {
    let needed = &model.tensors;
    let missing: Vec<&str> = needed
        .names
        .iter()
        .filter(|name| !there.contains(*name))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        let why = match missing[..] {
            [name] if is_head(name, needed) => {
                " since config.json does not set tie_word_embeddings"
            }
            _ => "",
        };
        let inner = there.iter().any(|name| name.starts_with(INNER));
        if inner && needed.naming.decoder != INNER {
            return Err(Failure::unusable(format!(
                "The names of the tensors in the model's safetensors begin with {INNER}, which the engine (mistral.rs {}) \
                 does not read for {}, but with {}. Load the model in transformers 5 and save it anew with \
                 save_pretrained.",
                crate::version::ENGINE_VERSION,
                model.architecture,
                needed.naming.decoder
            )));
        }
        return Err(Failure::unusable(format!(
            "The model's safetensors have no {}, which {} needs{why}. Get the files of weights and the config.json \
             that belong together.",
            list(&missing),
            model.architecture
        )));
    }
    let read: BTreeSet<&str> = needed.names.iter().map(String::as_str).collect();
    let left_out: Vec<&str> = there
        .iter()
        .map(String::as_str)
        .filter(|name| !read.contains(name) && !is_unneeded(name, needed, model.shape.layers))
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

fn is_head(name: &str, needed: &RequiredTensors) -> bool {
    let head = needed.naming.head.and_then(|head| name.strip_prefix(head));
    name == HEAD || head == Some(".weight")
}

fn is_unneeded(name: &str, needed: &RequiredTensors, layers: u64) -> bool {
    let others = needed.naming.others;
    if others.iter().any(|other| name.starts_with(other)) {
        return true;
    }
    // Layers behind the last predict further tokens, for which nobody asks.
    let layer = name
        .strip_prefix(needed.naming.decoder)
        .and_then(|name| name.strip_prefix("layers."))
        .and_then(|rest| rest.split('.').next());
    let beyond = layer
        .and_then(|layer| layer.parse().ok())
        .is_some_and(|layer: u64| layer >= layers);
    is_head(name, needed) || beyond || UNNEEDED.iter().any(|end| name.ends_with(end))
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
    use crate::inspect::architecture::Naming;

    fn checked(needed: &[&str], there: &[&str]) -> Result<(), String> {
        checked_as(Naming::TEXT, needed, there)
    }

    fn checked_as(naming: Naming, needed: &[&str], there: &[&str]) -> Result<(), String> {
        let names = needed.iter().map(|name| (*name).to_owned()).collect();
        let there = there.iter().map(|name| (*name).to_owned()).collect();
        let mut model = ModelConfig {
            architecture: "LlamaForCausalLM".into(),
            tensors: RequiredTensors { names, naming },
            ..ModelConfig::default()
        };
        model.shape.layers = 2;
        check(&there, &model).map_err(|failure| failure.message)
    }

    #[bounded::test]
    fn what_is_missing_is_named() {
        let error = checked(&["a", "lm_head.weight"], &["a"]).expect_err("missing");
        assert!(
            error.contains("lm_head.weight") && error.contains("tie_word"),
            "{error}"
        );
        let error = checked(&["a", "b", "c", "d", "e"], &[]).expect_err("missing");
        assert!(error.contains("a, b, c and 2 more"), "{error}");
    }

    #[bounded::test]
    fn an_unknown_tensor_that_the_engine_would_ignore_is_named() {
        let bias = "model.layers.0.self_attn.q_proj.bias";
        let error = checked(&["a"], &["a", bias]).expect_err("left out");
        assert!(error.contains(bias), "{error}");
    }

    #[bounded::test]
    fn known_tensors_that_the_engine_does_not_read_are_no_error() {
        let there = [
            "a",
            "lm_head.weight",
            "model.layers.0.self_attn.rotary_emb.inv_freq",
            "model.layers.2.eh_proj.weight",
        ];
        assert_eq!(checked(&["a"], &there), Ok(()));
    }

    #[bounded::test]
    fn other_parts_of_a_model_are_not_looked_at() {
        let naming = Naming {
            decoder: "language_model.model.",
            head: Some("language_model.lm_head"),
            others: &["vision_tower."],
        };
        let there = ["a", "vision_tower.b", "language_model.lm_head.weight"];
        assert_eq!(checked_as(naming, &["a"], &there), Ok(()));
        let there = ["a", "audio_tower.b"];
        let error = checked_as(naming, &["a"], &there).expect_err("left out");
        assert!(error.contains("audio_tower.b"), "{error}");
        let inner = ["model.language_model.embed_tokens.weight"];
        let error = checked_as(naming, &["a"], &inner).expect_err("other names");
        assert!(error.contains("save_pretrained"), "{error}");
    }
}
