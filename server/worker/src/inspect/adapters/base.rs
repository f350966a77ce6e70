//! The model that adapters are for: the layers that the engine merges adapters into.

use std::{collections::HashMap, path::PathBuf};

use super::super::{model_config::ModelConfig, safetensors};
use crate::failure::Failure;

/// Architectures of which the engine merges adapters into every matrix between the embedding and the head.
/// It leaves out the experts of mixtures, without a word, and parts of other architectures.
const ARCHITECTURES: [&str; 10] = [
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "GemmaForCausalLM",
    "Gemma2ForCausalLM",
    "PhiForCausalLM",
    "Phi3ForCausalLM",
    "SmolLM3ForCausalLM",
    "Starcoder2ForCausalLM",
];

/// The model's matrices.
#[derive(Debug, Default)]
pub(super) struct BaseMatrices {
    /// Rows and columns, by the name without ".weight".
    matrices: HashMap<String, (u64, u64)>,
}

impl BaseMatrices {
    /// Reads the headers of the weights.
    pub(super) fn read(model: &ModelConfig, weights: &[PathBuf]) -> Result<Self, Failure> {
        check(model)?;
        let mut base = Self::default();
        for path in weights {
            for tensor in safetensors::tensors(path)? {
                base.add(&tensor.name, &tensor.shape);
            }
        }
        Ok(base)
    }

    pub(super) fn add(&mut self, name: &str, shape: &[u64]) {
        if let (Some(layer), [rows, columns]) = (name.strip_suffix(".weight"), shape) {
            self.matrices.insert(layer.to_owned(), (*rows, *columns));
        }
    }

    /// Rows and columns of a layer's weight.
    pub(super) fn matrix(&self, layer: &str) -> Option<(u64, u64)> {
        self.matrices.get(layer).copied()
    }

    /// All layers that adapters are merged into.
    pub(super) fn layers(&self) -> impl Iterator<Item = &str> {
        self.matrices
            .keys()
            .map(String::as_str)
            .filter(|layer| is_merged(layer))
    }
}

/// Whether the engine merges adapters into a matrix of this name. It does for the head of some models too, and
/// not for the embedding, to which the head may be tied.
pub(super) fn is_merged(layer: &str) -> bool {
    layer.starts_with("model.layers.")
        && layer
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._".contains(&b))
}

fn check(model: &ModelConfig) -> Result<(), Failure> {
    if !ARCHITECTURES.contains(&model.architecture.as_str()) {
        return Err(Failure::unusable(format!(
            "Adapters cannot be merged into a {}, but into {}. Leave the adapters out, or load a model that \
             they are merged into already.",
            model.architecture,
            ARCHITECTURES.join(", ")
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(architecture: &str) -> ModelConfig {
        ModelConfig {
            architecture: architecture.into(),
            ..ModelConfig::default()
        }
    }

    #[bounded::test]
    fn only_matrices_between_embedding_and_head_are_merged() {
        let mut base = BaseMatrices::default();
        base.add("model.embed_tokens.weight", &[10, 4]);
        base.add("model.layers.0.self_attn.q_proj.weight", &[4, 4]);
        base.add("model.layers.0.input_layernorm.weight", &[4]);
        base.add("lm_head.weight", &[10, 4]);
        let layers: Vec<_> = base.layers().collect();
        assert_eq!(layers, ["model.layers.0.self_attn.q_proj"]);
        assert_eq!(base.matrix("lm_head"), Some((10, 4)));
    }

    #[bounded::test]
    fn what_the_engine_does_not_merge_into_is_refused() {
        assert!(check(&model("Qwen3ForCausalLM")).is_ok());
        let mixture = "Qwen3MoeForCausalLM";
        let error = check(&model(mixture)).expect_err(mixture);
        assert!(error.message.contains(mixture), "{error}");
    }
}
