//! What several architectures have.

use crate::inspect::architecture::{
    definition::Architecture,
    field::{Default, Field, FieldConstraint},
    rope::RopeForm,
    tensors::{Naming, Tensors},
    window::WindowForm,
};

/// What all have.
pub(super) const SIZES: &[Field] = &[
    Field::size("vocab_size"),
    Field::size("hidden_size"),
    Field::size("intermediate_size"),
    Field::size("num_hidden_layers"),
    Field::size("num_attention_heads"),
    Field::count_or("num_key_value_heads", Default::As("num_attention_heads")),
];

pub(super) const SILU: Field = Field::activation("hidden_act", "silu");
pub(super) const TIED: Field = Field::flag("tie_word_embeddings", true);
pub(super) const UNTIED: Field = Field::flag("tie_word_embeddings", false);
pub(super) const OWN_HEAD_DIM: Field = Field::count_or(
    "head_dim",
    Default::By("hidden_size", "num_attention_heads"),
);

pub(super) const fn context(length: u64) -> Field {
    Field::count("max_position_embeddings", length)
}

pub(super) const fn rms(eps: f64) -> Field {
    Field::number("rms_norm_eps", eps)
}

/// Heads divide the width among them.
pub(in crate::inspect::architecture) const HEAD_DIM: FieldConstraint =
    FieldConstraint::by("head_dim", "hidden_size", "num_attention_heads");
pub(super) const NO_ATTENTION_BIAS: FieldConstraint = FieldConstraint::off("attention_bias");
pub(super) const NO_MLP_BIAS: FieldConstraint = FieldConstraint::off("mlp_bias");
pub(super) const ONE_DIRECTION: FieldConstraint =
    FieldConstraint::off("use_bidirectional_attention");

pub(super) const PLAIN: Architecture = Architecture {
    name: "",
    fields: &[],
    fixed: &[],
    rope: RopeForm::Plain,
    theta: 10_000.0,
    rotated: None,
    window: WindowForm::None,
    tensors: Tensors::Llama,
    naming: Naming::TEXT,
    wrong: None,
};
