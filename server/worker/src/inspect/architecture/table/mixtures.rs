//! Architectures of experts, of which each token takes a few, and of layers that are no attention.

use super::shared_fields::{
    HEAD_DIM, NO_ATTENTION_BIAS, NO_MLP_BIAS, OWN_HEAD_DIM, PLAIN, SILU, SIZES, UNTIED, context,
    rms,
};
use crate::inspect::architecture::{
    definition::Architecture,
    field::{Default, Field, FieldConstraint},
    rope::RopeForm,
    tensors::Tensors,
    window::WindowForm,
};

/// Its layers of experts take them stacked in one tensor; on a CPU it makes placeholders of those that are apart.
const SEPARATE_EXPERTS: &str = "it does not read experts that are stored one by one on CPUs";
/// Its attention on CPUs gives as many numbers for each head as keys have.
const NARROW_VALUES: &str = "its attention on CPUs fails for values that are narrower than keys";
const OTHER_NUMBERS: &str = "its numbers are others than the reference's";

const DEEPSEEK: &[Field] = &[
    Field::count("moe_intermediate_size", 1407),
    SILU,
    rms(1e-6),
    UNTIED,
    Field::flag("attention_bias", false),
    Field::count("qk_rope_head_dim", 64),
    Field::count("kv_lora_rank", 512),
    Field::count("v_head_dim", 128),
    Field::count("qk_nope_head_dim", 128),
];

pub(super) const ALL: &[Architecture] = &[
    Architecture {
        name: "MixtralForCausalLM",
        fields: &[
            SIZES,
            &[
                SILU,
                rms(1e-5),
                context(131_072),
                UNTIED,
                Field::count("num_experts_per_tok", 2),
                Field::count("num_local_experts", 8).or("num_experts"),
            ],
        ],
        fixed: &[HEAD_DIM],
        theta: 1e6,
        window: WindowForm::All(None),
        tensors: Tensors::Mixtral,
        ..PLAIN
    },
    Architecture {
        name: "PhiMoEForCausalLM",
        fields: &[
            SIZES,
            &[
                SILU,
                rms(1e-5),
                context(131_072),
                Field::count_or(
                    "original_max_position_embeddings",
                    Default::As("max_position_embeddings"),
                ),
                UNTIED,
                Field::flag("attention_bias", false),
                Field::flag("lm_head_bias", false),
                Field::count("num_local_experts", 16).or("num_experts"),
                Field::number("router_jitter_noise", 0.01),
            ],
        ],
        fixed: &[
            HEAD_DIM,
            FieldConstraint::number("num_experts_per_tok", 2.0),
        ],
        rope: RopeForm::Phi,
        theta: 1e6,
        window: WindowForm::All(None),
        tensors: Tensors::PhiMoe,
        wrong: Some(OTHER_NUMBERS),
        ..PLAIN
    },
    Architecture {
        name: "Qwen3MoeForCausalLM",
        fields: &[
            SIZES,
            &[
                SILU,
                rms(1e-6),
                context(32_768),
                UNTIED,
                OWN_HEAD_DIM,
                Field::count("moe_intermediate_size", 768),
                Field::count("num_experts", 128).or("num_local_experts"),
                Field::counts("mlp_only_layers"),
                Field::count("decoder_sparse_step", 1),
                Field::flag("norm_topk_prob", false),
                Field::count("num_experts_per_tok", 8),
            ],
        ],
        fixed: &[NO_ATTENTION_BIAS],
        window: WindowForm::Switched,
        tensors: Tensors::Qwen3Moe,
        wrong: Some(SEPARATE_EXPERTS),
        ..PLAIN
    },
    Architecture {
        name: "Glm4MoeForCausalLM",
        fields: &[
            SIZES,
            &[
                SILU,
                rms(1e-5),
                context(131_072),
                UNTIED,
                OWN_HEAD_DIM,
                Field::number("partial_rotary_factor", 0.5),
                Field::flag("attention_bias", false),
                Field::flag("use_qk_norm", false),
                Field::count("moe_intermediate_size", 1408),
                Field::count("n_routed_experts", 128).or("num_experts"),
                Field::count("n_shared_experts", 1),
                Field::count("num_experts_per_tok", 8),
                Field::count("first_k_dense_replace", 1),
                Field::number("routed_scaling_factor", 1.0),
                Field::count("n_group", 1),
                Field::count("topk_group", 1),
                Field::flag("norm_topk_prob", true),
            ],
        ],
        rotated: Some(0.5),
        tensors: Tensors::Glm4Moe,
        wrong: Some(SEPARATE_EXPERTS),
        ..PLAIN
    },
    Architecture {
        name: "Glm4MoeLiteForCausalLM",
        fields: &[
            SIZES,
            DEEPSEEK,
            &[
                context(202_752),
                Field::count("q_lora_rank", 768),
                Field::count("n_routed_experts", 64).or("num_experts"),
                Field::count("n_shared_experts", 1),
                Field::count("num_experts_per_tok", 4),
                Field::count("first_k_dense_replace", 1),
                Field::number("routed_scaling_factor", 1.8),
                Field::count("n_group", 1),
                Field::count("topk_group", 1),
            ],
        ],
        fixed: &[
            NO_ATTENTION_BIAS,
            FieldConstraint::on("norm_topk_prob"),
            FieldConstraint::on("rope_interleave"),
        ],
        tensors: Tensors::Glm4MoeLite,
        wrong: Some(NARROW_VALUES),
        ..PLAIN
    },
    Architecture {
        name: "DeepseekV2ForCausalLM",
        fields: &[
            SIZES,
            DEEPSEEK,
            &[
                context(2048),
                Field::count_or("q_lora_rank", Default::Null),
                Field::count("n_routed_experts", 64).or("num_experts"),
                Field::count("n_shared_experts", 2),
                Field::count_or("num_experts_per_tok", Default::Null),
                Field::count("first_k_dense_replace", 0),
                Field::number("routed_scaling_factor", 1.0),
                Field::text("topk_method", "greedy"),
                Field::count("n_group", 1),
                Field::count("topk_group", 1),
            ],
        ],
        fixed: &[
            NO_MLP_BIAS,
            FieldConstraint::off("norm_topk_prob"),
            FieldConstraint::number("moe_layer_freq", 1.0),
            FieldConstraint::texts("scoring_func", &["softmax"]),
        ],
        rope: RopeForm::DeepSeek,
        tensors: Tensors::DeepSeek,
        wrong: Some(NARROW_VALUES),
        ..PLAIN
    },
    Architecture {
        name: "DeepseekV3ForCausalLM",
        fields: &[
            SIZES,
            DEEPSEEK,
            &[
                context(4096),
                Field::count_or("q_lora_rank", Default::Null),
                Field::count("n_routed_experts", 256).or("num_experts"),
                Field::count("n_shared_experts", 1),
                Field::count("num_experts_per_tok", 8),
                Field::count("first_k_dense_replace", 3),
                Field::number("routed_scaling_factor", 2.5),
                Field::text("topk_method", "noaux_tc"),
                Field::text("scoring_func", "sigmoid"),
                Field::count("n_group", 8),
                Field::count("topk_group", 4),
            ],
        ],
        fixed: &[
            FieldConstraint::on("norm_topk_prob"),
            FieldConstraint::on("rope_interleave"),
            FieldConstraint::number("moe_layer_freq", 1.0),
        ],
        rope: RopeForm::DeepSeek,
        tensors: Tensors::DeepSeek,
        wrong: Some(NARROW_VALUES),
        ..PLAIN
    },
    Architecture {
        name: "GraniteMoeHybridForCausalLM",
        fields: &[
            SIZES,
            &[
                rms(1e-6),
                context(2048),
                UNTIED,
                Field::count("shared_intermediate_size", 1024),
                Field::number("attention_multiplier", 1.0),
                Field::number("embedding_multiplier", 1.0),
                Field::number("residual_multiplier", 1.0),
                Field::number("logits_scaling", 1.0),
                Field::text("position_embedding_type", "nope"),
                Field::layers("layer_types", "mamba").or_first("layers_block_type"),
                Field::count("mamba_n_heads", 128),
                Field::count("mamba_n_groups", 1),
                Field::count("mamba_d_state", 256),
                Field::count("mamba_expand", 2),
                Field::count_or(
                    "mamba_d_head",
                    Default::Product("mamba_expand", "hidden_size", "mamba_n_heads"),
                ),
                Field::count("mamba_d_conv", 4),
                Field::count("mamba_chunk_size", 256),
                Field::flag("mamba_conv_bias", true),
                Field::flag("mamba_proj_bias", false),
            ],
        ],
        fixed: &[
            HEAD_DIM,
            NO_ATTENTION_BIAS,
            FieldConstraint::off_by_default("num_local_experts", 8),
            FieldConstraint::texts("hidden_act", &["silu", "swish"]),
            FieldConstraint::unbounded("time_step_limit"),
        ],
        window: WindowForm::Spacious,
        tensors: Tensors::Granite,
        ..PLAIN
    },
    Architecture {
        name: "Qwen3NextForCausalLM",
        fields: &[
            SIZES,
            &[
                SILU,
                rms(1e-6),
                context(32_768),
                UNTIED,
                Field::count("head_dim", 256),
                Field::number("partial_rotary_factor", 0.25),
                Field::count("linear_conv_kernel_dim", 4),
                Field::count("linear_key_head_dim", 128),
                Field::count("linear_value_head_dim", 128),
                Field::count("linear_num_key_heads", 16),
                Field::count("linear_num_value_heads", 32),
                Field::count("decoder_sparse_step", 1),
                Field::count("moe_intermediate_size", 512),
                Field::count("shared_expert_intermediate_size", 512),
                Field::count("num_experts_per_tok", 10),
                Field::count("num_experts", 512).or("num_local_experts"),
                Field::flag("norm_topk_prob", true),
                Field::counts("mlp_only_layers"),
            ],
        ],
        fixed: &[
            NO_ATTENTION_BIAS,
            FieldConstraint::number("decoder_sparse_step", 1.0),
        ],
        rotated: Some(0.25),
        window: WindowForm::Linear,
        tensors: Tensors::Qwen3Next,
        wrong: Some(SEPARATE_EXPERTS),
        ..PLAIN
    },
];
