//! Names of the tensors that the engine reads for each architecture.

use serde_json::{Map, Value};

/// An architecture's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::inspect) enum Tensors {
    Llama,
    Mixtral,
    Gemma2,
    Gemma3,
    Phi2,
    Phi3,
    PhiMoe,
    Qwen2,
    Qwen3,
    Qwen3Moe,
    Starcoder2,
    Glm4,
    Glm4Moe,
    Glm4MoeLite,
    DeepSeek,
    Granite,
    Qwen3Next,
}

/// How an architecture's tensors are named in files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::inspect) struct Naming {
    /// What the names of those before the head begin with.
    pub(in crate::inspect) decoder: &'static str,
    /// Name of the head, if there is one.
    pub(in crate::inspect) head: Option<&'static str>,
    /// What the names of other parts of the model begin with, which are not looked at.
    pub(in crate::inspect) others: &'static [&'static str],
}

impl Naming {
    /// That of a text model.
    pub(in crate::inspect) const TEXT: Self = Self {
        decoder: DECODER,
        head: Some("lm_head"),
        others: &[],
    };

    /// That of a model without a head.
    pub(super) const BARE: Self = Self {
        decoder: "",
        head: None,
        others: &[],
    };

    /// A tensor's name, by its name in a text model; `None` where there is none.
    fn of(self, name: &str) -> Option<String> {
        match name.strip_prefix(DECODER) {
            Some(name) => Some(format!("{}{name}", self.decoder)),
            None => {
                let end = name.strip_prefix("lm_head")?;
                self.head.map(|head| format!("{head}{end}"))
            }
        }
    }
}

const DECODER: &str = "model.";
const INPUTS: [&str; 3] = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
const ATTENTION: [&str; 4] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
];
const GATED: [&str; 3] = ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];
const NORMS: [&str; 2] = ["input_layernorm", "post_attention_layernorm"];
const QUERY_KEY_NORMS: [&str; 2] = ["self_attn.q_norm", "self_attn.k_norm"];
const SANDWICH: [&str; 2] = ["pre_feedforward_layernorm", "post_feedforward_layernorm"];

impl Tensors {
    /// Their names for these fields, as the engine gets them.
    pub(super) fn names(self, fields: &Map<String, Value>, naming: Naming) -> Vec<String> {
        let mut names = TensorNames {
            fields,
            layer: 0,
            all: Vec::new(),
        };
        names.whole(self);
        for layer in 0..names.count("num_hidden_layers") {
            names.layer = layer;
            names.attention(self);
            names.feed_forward(self);
        }
        let all = names.all.iter();
        all.filter_map(|name| naming.of(name)).collect()
    }
}

/// Names as they are put together.
struct TensorNames<'a> {
    fields: &'a Map<String, Value>,
    /// The layer of which those in layers are.
    layer: u64,
    all: Vec<String>,
}

impl TensorNames<'_> {
    fn flag(&self, name: &str) -> bool {
        self.fields.get(name) == Some(&Value::Bool(true))
    }

    fn count(&self, name: &str) -> u64 {
        self.fields.get(name).and_then(Value::as_u64).unwrap_or(0)
    }

    fn outer(&mut self, name: &str) {
        self.all.push(name.to_owned());
    }

    fn inner(&mut self, name: &str) {
        self.all.push(format!("model.layers.{}.{name}", self.layer));
    }

    fn weights(&mut self, names: &[&str]) {
        for name in names {
            self.inner(&format!("{name}.weight"));
        }
    }

    fn biases(&mut self, names: &[&str], there: bool) {
        for name in names.iter().filter(|_| there) {
            self.inner(&format!("{name}.bias"));
        }
    }

    /// What is in no layer.
    fn whole(&mut self, kind: Tensors) {
        self.outer("model.embed_tokens.weight");
        let norm = match kind {
            Tensors::Phi2 => "final_layernorm",
            _ => "norm",
        };
        self.outer(&format!("model.{norm}.weight"));
        if matches!(kind, Tensors::Phi2 | Tensors::PhiMoe | Tensors::Starcoder2) {
            self.outer(&format!("model.{norm}.bias"));
        }
        if !self.flag("tie_word_embeddings") {
            self.outer("lm_head.weight");
        }
        if kind == Tensors::Phi2 || self.flag("lm_head_bias") {
            self.outer("lm_head.bias");
        }
    }

    fn attention(&mut self, kind: Tensors) {
        let bias = self.flag("attention_bias");
        match kind {
            Tensors::Phi2 => return self.phi2(),
            Tensors::Phi3 => self.weights(&["self_attn.qkv_proj", "self_attn.o_proj"]),
            Tensors::DeepSeek | Tensors::Glm4MoeLite => self.latent(),
            Tensors::Granite => return self.granite(),
            Tensors::Qwen3Next
                if !(self.layer + 1)
                    .is_multiple_of(self.count("full_attention_interval").max(1)) =>
            {
                self.linear();
            }
            _ => self.weights(&ATTENTION),
        }
        self.weights(&NORMS);
        match kind {
            Tensors::PhiMoe => {
                self.biases(&NORMS, true);
                self.biases(&ATTENTION, bias);
            }
            Tensors::Llama | Tensors::Gemma2 => self.biases(&ATTENTION, bias),
            Tensors::Starcoder2 => {
                self.biases(&NORMS, true);
                self.biases(&ATTENTION, self.flag("use_bias"));
            }
            Tensors::Qwen2 => self.biases(&INPUTS, true),
            Tensors::Glm4 | Tensors::Glm4Moe => self.biases(&INPUTS, bias),
            _ => {}
        }
        match kind {
            Tensors::Gemma2 => self.weights(&SANDWICH),
            Tensors::Gemma3 => {
                self.weights(&SANDWICH);
                self.weights(&QUERY_KEY_NORMS);
                self.biases(&ATTENTION, bias);
            }
            Tensors::Qwen3 | Tensors::Qwen3Moe => self.weights(&QUERY_KEY_NORMS),
            Tensors::Glm4Moe if self.flag("use_qk_norm") => self.weights(&QUERY_KEY_NORMS),
            Tensors::Glm4 => self.weights(&["post_self_attn_layernorm", "post_mlp_layernorm"]),
            _ => {}
        }
    }

    /// Attention and norm of Phi-2.
    fn phi2(&mut self) {
        let all = [&INPUTS[..], &["self_attn.dense", "input_layernorm"]].concat();
        self.weights(&all);
        self.biases(&all, true);
        let norms = ["self_attn.q_layernorm", "self_attn.k_layernorm"];
        if self.flag("qk_layernorm") {
            self.weights(&norms);
            self.biases(&norms, true);
        }
    }

    /// Attention with latent keys and values.
    fn latent(&mut self) {
        let bias = self.flag("attention_bias");
        if self.count("q_lora_rank") > 0 {
            self.weights(&[
                "self_attn.q_a_proj",
                "self_attn.q_a_layernorm",
                "self_attn.q_b_proj",
            ]);
            self.biases(&["self_attn.q_a_proj"], bias);
        } else {
            self.weights(&["self_attn.q_proj"]);
        }
        self.weights(&[
            "self_attn.kv_a_proj_with_mqa",
            "self_attn.kv_a_layernorm",
            "self_attn.kv_b_proj",
            "self_attn.o_proj",
        ]);
        self.biases(&["self_attn.kv_a_proj_with_mqa", "self_attn.o_proj"], bias);
    }

    fn granite(&mut self) {
        let kind = self
            .fields
            .get("layer_types")
            .and_then(|types| types.get(self.layer as usize));
        self.weights(&NORMS);
        self.weights(&["shared_mlp.input_linear", "shared_mlp.output_linear"]);
        if kind.and_then(Value::as_str) != Some("mamba") {
            return self.weights(&ATTENTION);
        }
        self.weights(&[
            "mamba.in_proj",
            "mamba.out_proj",
            "mamba.conv1d",
            "mamba.norm",
        ]);
        self.biases(&["mamba.conv1d"], self.flag("mamba_conv_bias"));
        for name in ["mamba.A_log", "mamba.D", "mamba.dt_bias"] {
            self.inner(name);
        }
    }

    /// Attention without a cache of tokens.
    fn linear(&mut self) {
        self.weights(&[
            "linear_attn.conv1d",
            "linear_attn.in_proj_ba",
            "linear_attn.in_proj_qkvz",
            "linear_attn.norm",
            "linear_attn.out_proj",
        ]);
        self.inner("linear_attn.A_log");
        self.inner("linear_attn.dt_bias");
    }

    fn feed_forward(&mut self, kind: Tensors) {
        match kind {
            Tensors::Mixtral | Tensors::PhiMoe => {
                self.weights(&["block_sparse_moe.gate"]);
                for expert in 0..self.count("num_local_experts") {
                    for name in ["w1", "w2", "w3"] {
                        self.inner(&format!("block_sparse_moe.experts.{expert}.{name}.weight"));
                    }
                }
            }
            Tensors::Phi2 => {
                self.weights(&["mlp.fc1", "mlp.fc2"]);
                self.biases(&["mlp.fc1", "mlp.fc2"], true);
            }
            Tensors::Starcoder2 => {
                self.weights(&["mlp.c_fc", "mlp.c_proj"]);
                self.biases(&["mlp.c_fc", "mlp.c_proj"], self.flag("use_bias"));
            }
            Tensors::Phi3 | Tensors::Glm4 => self.weights(&["mlp.gate_up_proj", "mlp.down_proj"]),
            Tensors::Granite => {}
            Tensors::Qwen3Moe if self.is_sparse() => self.experts(self.count("num_experts")),
            Tensors::Qwen3Next => {
                self.experts(self.count("num_experts"));
                self.weights(&[
                    "mlp.shared_expert_gate",
                    "mlp.shared_expert.gate_proj",
                    "mlp.shared_expert.up_proj",
                    "mlp.shared_expert.down_proj",
                ]);
            }
            Tensors::DeepSeek | Tensors::Glm4Moe | Tensors::Glm4MoeLite
                if self.layer >= self.count("first_k_dense_replace") =>
            {
                self.routed_experts();
            }
            _ => self.weights(&GATED),
        }
    }

    /// Experts that tokens are routed to, and those that all tokens share.
    fn routed_experts(&mut self) {
        self.experts(self.count("n_routed_experts"));
        if self.fields["n_shared_experts"] != 0 {
            for name in ["gate_proj", "up_proj", "down_proj"] {
                self.all.push(format!(
                    "model.layers.{}.mlp.shared_experts.{name}.weight",
                    self.layer
                ));
            }
        }
        let method = self.fields.get("topk_method").and_then(Value::as_str);
        if method.is_none_or(|method| method == "noaux_tc") {
            self.inner("mlp.gate.e_score_correction_bias");
        }
    }

    /// Whether a layer of Qwen3's mixture is one of experts.
    fn is_sparse(&self) -> bool {
        let dense = self.fields.get("mlp_only_layers").and_then(Value::as_array);
        let dense = dense.is_some_and(|layers| layers.contains(&self.layer.into()));
        let step = self.count("decoder_sparse_step").max(1);
        !dense && self.count("num_experts") > 0 && (self.layer + 1).is_multiple_of(step)
    }

    fn experts(&mut self, count: u64) {
        self.weights(&["mlp.gate"]);
        for expert in 0..count {
            for name in ["gate_proj", "up_proj", "down_proj"] {
                self.inner(&format!("mlp.experts.{expert}.{name}.weight"));
            }
        }
    }
}
