//! Decoders that are parts of something else: the text halves of multimodal models, and embedding models.

use super::{
    dense::{GEMMA3, GEMMA3_FIELDS, QWEN3, QWEN3_FIELDS},
    shared_fields::{NO_ATTENTION_BIAS, PLAIN, SILU, SIZES, UNTIED, context, rms},
};
use crate::inspect::architecture::{
    definition::Architecture,
    field::{Default, Field, FieldConstraint},
    rope::RopeForm,
    tensors::{Naming, Tensors},
    window::WindowForm,
};

/// The text halves of multimodal models, by the names of the whole.
pub(in crate::inspect::architecture) const HALVES: &[Architecture] = &[
    Architecture {
        name: "Gemma3ForConditionalGeneration",
        naming: Naming {
            decoder: "language_model.model.",
            head: Some("language_model.lm_head"),
            others: &["vision_tower.vision_model.", "multi_modal_projector."],
        },
        ..GEMMA3
    },
    Architecture {
        name: "Qwen3VLForConditionalGeneration",
        fields: &[&[
            Field::count("vocab_size", 151_936),
            Field::count("hidden_size", 4096),
            Field::count("intermediate_size", 22_016),
            Field::count("num_hidden_layers", 32),
            Field::count("num_attention_heads", 32),
            Field::count_or("num_key_value_heads", Default::As("num_attention_heads")),
            Field::count("head_dim", 128),
            SILU,
            rms(1e-6),
            context(128_000),
            UNTIED,
        ]],
        fixed: &[NO_ATTENTION_BIAS],
        rope: RopeForm::Sections,
        theta: 5e5,
        tensors: Tensors::Qwen3,
        naming: Naming {
            decoder: "model.language_model.",
            head: Some("lm_head"),
            others: &["model.visual."],
        },
        ..PLAIN
    },
];

/// Embedding models.
pub(in crate::inspect::architecture) const EMBEDDINGS: &[Architecture] = &[
    Architecture {
        name: "Qwen3ForCausalLM",
        fields: &[SIZES, QWEN3_FIELDS],
        naming: Naming::BARE,
        ..QWEN3
    },
    Architecture {
        name: "Gemma3TextModel",
        fields: &[GEMMA3_FIELDS, &[Field::flag(BOTH_DIRECTIONS, false)]],
        fixed: &[FieldConstraint::turned_on(BOTH_DIRECTIONS)],
        window: WindowForm::BothSides,
        naming: Naming::BARE,
        ..GEMMA3
    },
];

/// Whether tokens see those after them, too: without it, a Gemma is none that the engine has for embeddings.
const BOTH_DIRECTIONS: &str = "use_bidirectional_attention";
