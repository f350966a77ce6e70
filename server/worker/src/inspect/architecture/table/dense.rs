//! Architectures whose layers compute everything for each token.

use super::shared_fields::{
    HEAD_DIM, NO_ATTENTION_BIAS, NO_MLP_BIAS, ONE_DIRECTION, OWN_HEAD_DIM, PLAIN, SILU, SIZES,
    TIED, UNTIED, context, rms,
};
use crate::inspect::architecture::{
    definition::Architecture,
    field::{Field, FieldConstraint},
    rope::RopeForm,
    tensors::Tensors,
    window::{QWEN_WIDTH, WindowForm},
};

/// It hands whole heads to a rotation of a part of them.
const WHOLE_HEADS: &str = "its rotation of a part of each head fails";

pub(super) const ALL: &[Architecture] = &[
    Architecture {
        name: "LlamaForCausalLM",
        fields: &[SIZES, &[SILU, rms(1e-6), context(2048), UNTIED]],
        fixed: &[HEAD_DIM, NO_ATTENTION_BIAS, NO_MLP_BIAS],
        rope: RopeForm::Llama,
        ..PLAIN
    },
    Architecture {
        name: "MistralForCausalLM",
        fields: &[
            SIZES,
            &[SILU, rms(1e-6), context(131_072), UNTIED, OWN_HEAD_DIM],
        ],
        window: WindowForm::All(Some(4096)),
        ..PLAIN
    },
    Architecture {
        name: "GemmaForCausalLM",
        fields: &[
            SIZES,
            &[
                Field::old_activation("hidden_act", "gelu_pytorch_tanh"),
                rms(1e-6),
                context(8192),
                TIED,
                Field::count("head_dim", 256),
                Field::flag("attention_bias", false),
            ],
        ],
        fixed: &[FieldConstraint::on("tie_word_embeddings"), ONE_DIRECTION],
        ..PLAIN
    },
    Architecture {
        name: "Gemma2ForCausalLM",
        fields: &[
            SIZES,
            &[
                Field::activation("hidden_activation", "gelu_pytorch_tanh"),
                rms(1e-6),
                context(8192),
                TIED,
                Field::count("head_dim", 256),
                Field::flag("attention_bias", false),
                Field::number_or_null("attn_logit_softcapping", 50.0),
                Field::number_or_null("final_logit_softcapping", 30.0),
                Field::count("query_pre_attn_scalar", 256),
            ],
        ],
        fixed: &[FieldConstraint::on("tie_word_embeddings"), ONE_DIRECTION],
        window: WindowForm::Short(Some(4096)),
        tensors: Tensors::Gemma2,
        ..PLAIN
    },
    GEMMA3,
    Architecture {
        name: "PhiForCausalLM",
        fields: &[
            SIZES,
            &[
                Field::activation("hidden_act", "gelu_new"),
                context(2048),
                UNTIED,
                Field::number("layer_norm_eps", 1e-5),
                Field::number("partial_rotary_factor", 0.5),
                Field::flag("qk_layernorm", false),
            ],
        ],
        fixed: &[HEAD_DIM],
        rotated: Some(0.5),
        tensors: Tensors::Phi2,
        wrong: Some(WHOLE_HEADS),
        ..PLAIN
    },
    Architecture {
        name: "Phi3ForCausalLM",
        fields: &[
            SIZES,
            &[
                SILU,
                rms(1e-5),
                context(4096),
                Field::count("original_max_position_embeddings", 4096),
                UNTIED,
                Field::number("partial_rotary_factor", 1.0),
            ],
        ],
        fixed: &[HEAD_DIM, NO_ATTENTION_BIAS],
        rope: RopeForm::Phi,
        rotated: Some(1.0),
        window: WindowForm::All(None),
        tensors: Tensors::Phi3,
        ..PLAIN
    },
    Architecture {
        name: "Qwen2ForCausalLM",
        fields: &[SIZES, &[SILU, rms(1e-6), context(32_768), UNTIED]],
        fixed: &[HEAD_DIM],
        window: WindowForm::SwitchedShort(QWEN_WIDTH),
        tensors: Tensors::Qwen2,
        ..PLAIN
    },
    QWEN3,
    Architecture {
        name: "Starcoder2ForCausalLM",
        fields: &[
            SIZES,
            &[
                Field::activation("hidden_act", "gelu_pytorch_tanh"),
                Field::number("norm_epsilon", 1e-5),
                context(4096),
                TIED,
                Field::flag("use_bias", true),
            ],
        ],
        fixed: &[HEAD_DIM, FieldConstraint::on("tie_word_embeddings")],
        window: WindowForm::All(None),
        tensors: Tensors::Starcoder2,
        ..PLAIN
    },
    Architecture {
        name: "SmolLM3ForCausalLM",
        fields: &[
            SIZES,
            &[
                SILU,
                rms(1e-6),
                context(32_768),
                TIED,
                Field::count("no_rope_layer_interval", 4),
                Field::per_layer("no_rope_layers"),
            ],
        ],
        fixed: &[HEAD_DIM, NO_ATTENTION_BIAS, NO_MLP_BIAS],
        rope: RopeForm::Llama,
        theta: 2e6,
        window: WindowForm::SwitchedShort(None),
        ..PLAIN
    },
    Architecture {
        name: "Glm4ForCausalLM",
        fields: &[
            SIZES,
            &[
                SILU,
                rms(1.5625e-7),
                context(131_072),
                UNTIED,
                Field::count("head_dim", 128),
                Field::number("partial_rotary_factor", 0.5),
                Field::flag("attention_bias", true),
            ],
        ],
        rotated: Some(0.5),
        tensors: Tensors::Glm4,
        ..PLAIN
    },
];

pub(super) const GEMMA3: Architecture = Architecture {
    name: "Gemma3ForCausalLM",
    fields: &[GEMMA3_FIELDS, GEMMA3_HEAD],
    fixed: &[ONE_DIRECTION],
    rope: RopeForm::Gemma3,
    theta: 1e6,
    window: WindowForm::Pattern,
    tensors: Tensors::Gemma3,
    ..PLAIN
};

pub(super) const QWEN3: Architecture = Architecture {
    name: "Qwen3ForCausalLM",
    fields: &[SIZES, QWEN3_FIELDS, &[UNTIED]],
    fixed: &[NO_ATTENTION_BIAS],
    window: WindowForm::Upper,
    tensors: Tensors::Qwen3,
    ..PLAIN
};

/// What counts for Qwen3 beside its sizes, with a head or without one.
pub(super) const QWEN3_FIELDS: &[Field] = &[
    SILU,
    rms(1e-6),
    context(32_768),
    Field::count("head_dim", 128),
];

/// As the engine has them in one struct for models with and without images.
pub(super) const GEMMA3_FIELDS: &[Field] = &[
    Field::count("vocab_size", 262_208),
    Field::count("hidden_size", 2304),
    Field::count("intermediate_size", 9216),
    Field::count("num_hidden_layers", 26),
    Field::count("num_attention_heads", 8),
    Field::count("num_key_value_heads", 4),
    Field::count("head_dim", 256),
    Field::activation("hidden_activation", "gelu_pytorch_tanh"),
    rms(1e-6),
    context(131_072),
    Field::flag("attention_bias", false),
    Field::optional("attn_logit_softcapping"),
    Field::count("query_pre_attn_scalar", 256),
];

/// What counts for its head.
const GEMMA3_HEAD: &[Field] = &[TIED, Field::optional("final_logit_softcapping")];
