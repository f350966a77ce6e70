//! What kind of model an architecture makes, and whether the engine has it.

use hangar_client::v1::ModelKind;
use mistralrs::core::{MultimodalLoaderType, NormalLoaderType};

use super::architecture::Architecture;
use crate::failure::Failure;

/// Multimodal architectures that can be served, for messages.
const MULTIMODAL: &[&str] = &[
    "Gemma3ForConditionalGeneration",
    "Qwen3VLForConditionalGeneration",
];

/// What kind of model the architecture makes, if the engine has it and it can be served.
pub(super) fn of(name: &str) -> Result<ModelKind, Failure> {
    if Architecture::of(name).is_some() || NormalLoaderType::from_causal_lm_name(name).is_ok() {
        return Ok(ModelKind::Text);
    }
    if multimodal_loader(name).is_some() {
        return Ok(ModelKind::Multimodal);
    }
    if MultimodalLoaderType::from_causal_lm_name(name).is_ok() {
        return Err(Failure::unusable(format!(
            "{name} is a multimodal model of an architecture that this version of Hangar does not support. \
             Load one of {}, or a text model.",
            MULTIMODAL.join(", ")
        )));
    }
    Err(Failure::unusable(format!(
        "The architecture {name} is not supported by the engine (mistral.rs {}). Load a model of a \
         supported one, for example LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, \
         Qwen3ForCausalLM, Gemma2ForCausalLM or Phi3ForCausalLM.",
        crate::version::ENGINE_VERSION
    )))
}

/// The engine's loader for a multimodal architecture that can be served.
pub(super) fn multimodal_loader(architecture: &str) -> Option<MultimodalLoaderType> {
    if !MULTIMODAL.contains(&architecture) {
        return None;
    }
    MultimodalLoaderType::from_causal_lm_name(architecture).ok()
}

/// Checks that the engine has embedding models of this architecture.
pub(super) fn check_embedding(name: &str) -> Result<(), Failure> {
    if Architecture::of_embedding(name).is_some() {
        return Ok(());
    }
    Err(Failure::unusable(format!(
        "Embedding models of the architecture {name} are not supported by the engine (mistral.rs {}). Load \
         one of Qwen3 (Qwen3ForCausalLM, Qwen3Model) or Gemma (Gemma3TextModel).",
        crate::version::ENGINE_VERSION
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn architectures_that_the_engine_lacks_are_refused() {
        assert_eq!(of("LlamaForCausalLM"), Ok(ModelKind::Text));
        let gemma = of("Gemma3ForConditionalGeneration");
        assert_eq!(gemma, Ok(ModelKind::Multimodal));
        assert!(of("FooForCausalLM").is_err());
        let error = of("Idefics2ForConditionalGeneration").expect_err("multimodal");
        assert!(error.message.contains("multimodal"), "{error}");
    }

    #[bounded::test]
    fn multimodal_architectures_that_can_be_served_are_the_engines() {
        for name in MULTIMODAL {
            assert!(multimodal_loader(name).is_some(), "{name}");
        }
        assert!(multimodal_loader("Idefics2ForConditionalGeneration").is_none());
    }

    #[bounded::test]
    fn only_embedding_models_that_the_engine_has_are_taken() {
        assert!(check_embedding("Qwen3ForCausalLM").is_ok());
        assert!(check_embedding("Qwen3Model").is_ok());
        assert!(check_embedding("Gemma3TextModel").is_ok());
        assert!(check_embedding("BertModel").is_err());
    }
}
