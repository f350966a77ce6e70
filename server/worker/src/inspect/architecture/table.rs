//! The architectures of the engine's text models.
//!
//! Defaults are those of the configurations of transformers 5.24.

mod dense;
mod mixtures;

use super::{
    field::{Default, Field, Only},
    known::Architecture,
    rope::RopeForm,
    tensors::Tensors,
    window::WindowForm,
};

/// What all have.
const SIZES: &[Field] = &[
    Field::size("vocab_size"),
    Field::size("hidden_size"),
    Field::size("intermediate_size"),
    Field::size("num_hidden_layers"),
    Field::size("num_attention_heads"),
    Field::count_or("num_key_value_heads", Default::As("num_attention_heads")),
];

const SILU: Field = Field::activation("hidden_act", "silu");
const TIED: Field = Field::flag("tie_word_embeddings", true);
const UNTIED: Field = Field::flag("tie_word_embeddings", false);
const OWN_HEAD_DIM: Field = Field::count_or(
    "head_dim",
    Default::By("hidden_size", "num_attention_heads"),
);

const fn context(length: u64) -> Field {
    Field::count("max_position_embeddings", length)
}

const fn rms(eps: f64) -> Field {
    Field::number("rms_norm_eps", eps)
}

/// Heads divide the width among them.
pub(super) const HEAD_DIM: Only = Only::by("head_dim", "hidden_size", "num_attention_heads");
const NO_ATTENTION_BIAS: Only = Only::off("attention_bias");
const NO_MLP_BIAS: Only = Only::off("mlp_bias");
const ONE_DIRECTION: Only = Only::off("use_bidirectional_attention");

const PLAIN: Architecture = Architecture {
    name: "",
    fields: &[],
    fixed: &[],
    rope: RopeForm::Plain,
    theta: 10_000.0,
    rotated: None,
    window: WindowForm::None,
    tensors: Tensors::Llama,
    wrong: None,
};

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
