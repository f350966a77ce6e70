//! The architectures of the engine's text models.
//!
//! Defaults are those of the configurations of transformers 5.24.

mod dense;
mod halves;
mod mixtures;
mod shared_fields;

pub(super) use halves::{EMBEDDINGS, HALVES};
pub(super) use shared_fields::HEAD_DIM;
use shared_fields::{
    NO_ATTENTION_BIAS, NO_MLP_BIAS, OWN_HEAD_DIM, PLAIN, SILU, SIZES, UNTIED, context, rms,
};

use super::definition::Architecture;

/// A Llama whose heads have a width of their own.
pub(super) const LLAMA_AS_MISTRAL: Architecture = Architecture {
    name: "MistralForCausalLM",
    fields: &[
        SIZES,
        &[SILU, rms(1e-6), context(2048), UNTIED, OWN_HEAD_DIM],
    ],
    fixed: &[NO_ATTENTION_BIAS, NO_MLP_BIAS],
    ..PLAIN
};

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static Architecture> {
    dense::ALL.iter().chain(mixtures::ALL)
}
