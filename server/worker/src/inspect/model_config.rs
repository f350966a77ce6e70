//! The fields of a model's config.json that Hangar itself uses.

use std::path::Path;

use hangar_client::v1::ModelKind;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    architecture::{Architecture, Limits, RequiredTensors, TranslatedConfig},
    config_fields, files, kind, stored_quantization,
};
use crate::failure::Failure;

/// Longest config.json in bytes.
const MAX_CONFIG: u64 = 16 << 20;

/// A text model of which the engine has the loader among the multimodal ones.
pub(super) const GEMMA3_TEXT: &str = "Gemma3ForCausalLM";

/// More layers than any model has: what claims more is broken.
pub(super) const MAX_LAYERS: u32 = 10_000;

/// Fields that say how many experts a layer has.
const EXPERTS: [&str; 3] = ["num_local_experts", "num_experts", "n_routed_experts"];

/// Most experts of all layers together.
const MAX_EXPERTS: f64 = 200_000.0;

/// What a config.json says.
#[derive(Debug, Clone, Default)]
pub(super) struct ModelConfig {
    /// Class of the model, for example "LlamaForCausalLM".
    pub(super) architecture: String,
    /// What the architecture makes it.
    pub(super) kind: ModelKind,
    /// Name that the file gives, if it is one and not a path.
    pub(super) name: Option<String>,
    /// Longest sequence.
    pub(super) context_length: Option<u32>,
    /// Rows of the embedding.
    pub(super) vocabulary_size: Option<u32>,
    /// Size of the cache of one token.
    pub(super) shape: Shape,
    /// What the engine gets in place of the file.
    pub(super) handed: Map<String, Value>,
    /// Up to where the engine computes what the model says.
    pub(super) limits: Limits,
    /// The tensors that the engine reads.
    pub(super) tensors: RequiredTensors,
    /// Tokens that end an answer, where no other file says it.
    pub(super) eos_token_ids: Value,
}

/// Sizes of which the need for memory follows; zero where not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// Layers.
    pub(super) layers: u64,
    /// Heads of keys and values in each layer.
    pub(super) kv_heads: u64,
    /// Numbers in a key of a head.
    pub(super) head_size: u64,
    /// Numbers between layers.
    pub(super) hidden_size: u64,
    /// Numbers within a layer.
    pub(super) intermediate_size: u64,
    /// Layers that keep the last tokens only.
    pub(super) window_layers: u64,
    /// How many of them.
    pub(super) window: u64,
}

#[derive(Deserialize)]
struct RawConfig {
    architectures: Option<Vec<String>>,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

impl ModelConfig {
    /// Reads the file and checks that the engine has the model's architecture for models of this kind. `own_head` is the
    /// name of a head in the weights that is no copy of the embedding.
    pub(super) fn read(
        path: &Path,
        wanted: ModelKind,
        own_head: Option<&str>,
    ) -> Result<Self, Failure> {
        let raw: RawConfig = files::read_json(path, MAX_CONFIG)?;
        let architecture = raw
            .architectures
            .and_then(|all| all.into_iter().next())
            .ok_or_else(|| {
                Failure::unusable(
                    "config.json names no architecture. Get the config.json that belongs to the model; \
                     its `architectures` says for example [\"LlamaForCausalLM\"].",
                )
            })?;
        stored_quantization::check(&raw.fields)?;
        let kind = match wanted {
            ModelKind::Embedding => {
                kind::check_embedding(&architecture)?;
                wanted
            }
            _ => kind::of(&architecture)?,
        };
        let eos_token_ids = eos_in(&raw.fields);
        let read = |fields| Self::translated(architecture.clone(), kind, fields);
        let mut config = match own_head.filter(|_| kind != ModelKind::Embedding) {
            Some(head) => read_untied(raw.fields, head, read)?,
            None => read(raw.fields)?,
        };
        config.eos_token_ids = eos_token_ids;
        Ok(config)
    }

    /// What the fields say, and how they are handed to the engine.
    fn translated(
        name: String,
        kind: ModelKind,
        fields: Map<String, Value>,
    ) -> Result<Self, Failure> {
        let known = match kind {
            ModelKind::Multimodal => return Self::multimodal(name, fields),
            ModelKind::Embedding => Architecture::of_embedding(&name),
            _ => Architecture::of(&name),
        };
        let Some(known) = known else {
            return Err(Failure::unusable(format!(
                "This version of Hangar does not serve {name}: the engine computes it on GPUs only, and was not \
                 compared with the reference there. Load a model of another architecture."
            )));
        };
        if let Some(why) = known.wrong {
            return Err(Failure::unusable(format!(
                "This version of Hangar does not serve {name}, which the engine (mistral.rs {}) does not compute as \
                 the reference does: {why}. Load a model of another architecture.",
                crate::version::ENGINE_VERSION
            )));
        }
        check_counts(&fields)?;
        let known = known.computed_by(&fields);
        let translated = known.translate(&name, &fields)?;
        let config = Self::from_fields(name, &translated);
        let limits = match kind {
            ModelKind::Embedding => translated.limits.as_one_prefill(),
            _ => translated.limits,
        };
        let most = limits.max_sequence.unwrap_or(u32::MAX);
        Ok(Self {
            kind,
            name: name_in(&fields),
            context_length: config.context_length.map(|length| length.min(most)),
            tensors: known.tensors(&translated.fields),
            handed: translated.fields,
            limits,
            ..config
        })
    }

    /// The same of a model whose text half is what the engine computes as the reference does, or not.
    fn multimodal(name: String, mut fields: Map<String, Value>) -> Result<Self, Failure> {
        const TEXT: &str = "text_config";
        let Some(half) = Architecture::of_text_half(&name) else {
            return Err(Failure::internal(format!("{name} has no table")));
        };
        check_counts(&fields)?;
        let model_name = name_in(&fields);
        let mut text = match fields.remove(TEXT) {
            Some(Value::Object(text)) => text,
            _ => Map::new(),
        };
        // What the whole says of its head counts, and not what its half says.
        text.remove(TIED);
        text.extend(fields.get(TIED).map(|tied| (TIED.into(), tied.clone())));
        check_counts(&text)?;
        let translated = half.translate(&name, &text)?;
        fields.remove("quantization_config");
        fields.insert("architectures".into(), json!([name]));
        fields.insert(TIED.into(), translated.fields[TIED].clone());
        fields.insert(TEXT.into(), translated.fields.clone().into());
        let config = Self::from_fields(name, &translated);
        Ok(Self {
            kind: ModelKind::Multimodal,
            name: model_name,
            tensors: half.tensors(&translated.fields),
            handed: fields,
            limits: translated.limits,
            ..config
        })
    }

    /// What the fields say that the engine gets: its tables have written all defaults.
    fn from_fields(architecture: String, translated: &TranslatedConfig) -> Self {
        let TranslatedConfig {
            fields, in_window, ..
        } = translated;
        let number = |name: &str| fields.get(name).and_then(Value::as_u64);
        let small = |name: &str| number(name).and_then(|value| u32::try_from(value).ok());
        let heads = number("num_attention_heads").unwrap_or(0);
        let hidden_size = number("hidden_size").unwrap_or(0);
        let head_size = number("head_dim")
            .or_else(|| hidden_size.checked_div(heads))
            .unwrap_or(0);
        // Of a Gemma 3 whose number is none.
        let made_for = architecture.starts_with("Gemma3").then_some(131_072);
        Self {
            architecture,
            context_length: small("max_position_embeddings")
                .or(made_for)
                .filter(|length| *length > 0),
            vocabulary_size: small("vocab_size"),
            shape: Shape {
                layers: number("num_hidden_layers").unwrap_or(0),
                kv_heads: number("num_key_value_heads").unwrap_or(heads),
                head_size,
                hidden_size,
                intermediate_size: intermediate_size(fields),
                window_layers: in_window.layers,
                window: in_window.width,
            },
            ..Self::default()
        }
    }
}

/// Numbers between the matrices of a feed-forward layer, for each token: in a mixture, those of all experts that it goes to.
fn intermediate_size(fields: &Map<String, Value>) -> u64 {
    let number = |name: &str| fields.get(name).and_then(Value::as_u64);
    let dense = number("intermediate_size").unwrap_or(0);
    let experts = number("num_experts_per_tok").unwrap_or(0);
    let of_expert = number("moe_intermediate_size").unwrap_or(dense);
    dense.max(experts.saturating_mul(of_expert))
}

/// Refuses a config.json that claims more layers, or experts in them, than any model has: their names are made.
fn check_counts(fields: &Map<String, Value>) -> Result<(), Failure> {
    let claimed = |name| config_fields::values(fields, name).next()?.as_f64();
    let refused = |what: String| {
        Err(Failure::unusable(format!(
            "config.json claims {what}. Get the config.json that belongs to the model."
        )))
    };
    let layers = claimed("num_hidden_layers").unwrap_or(0.0);
    if layers > f64::from(MAX_LAYERS) {
        return refused(format!("{layers} layers"));
    }
    let experts = EXPERTS.into_iter().filter_map(claimed);
    let experts = experts.fold(0.0, f64::max);
    if experts * layers.max(1.0) > MAX_EXPERTS {
        return refused(format!("{experts} experts in each layer"));
    }
    Ok(())
}

/// The name that a config.json gives, if it is one and not a path.
fn name_in(fields: &Map<String, Value>) -> Option<String> {
    let name = config_fields::values(fields, "_name_or_path").next();
    name.and_then(Value::as_str)
        .filter(|name| !name.is_empty() && !name.starts_with(['/', '.', '~']))
        .map(ToOwned::to_owned)
}

/// The tokens that end an answer, by a config.json or else by its text half.
fn eos_in(fields: &Map<String, Value>) -> Value {
    let mut ends = config_fields::values(fields, "eos_token_id");
    ends.find(|ends| !ends.is_null())
        .cloned()
        .unwrap_or_default()
}

/// Whether the embedding is the head as well.
const TIED: &str = "tie_word_embeddings";

/// Reads the fields of a model with this head of its own, which the reference uses whatever they say.
fn read_untied(
    mut fields: Map<String, Value>,
    head: &str,
    read: impl Fn(Map<String, Value>) -> Result<ModelConfig, Failure>,
) -> Result<ModelConfig, Failure> {
    let as_given = read(fields.clone())?;
    if as_given.handed.get(TIED) == Some(&Value::Bool(false)) {
        return Ok(as_given);
    }
    fields.insert(TIED.into(), false.into());
    read(fields).ok().ok_or_else(|| {
        Failure::unusable(format!(
            "config.json says that the embedding is the head as well ({TIED}), but the weights have a {head} that is \
             another. The reference uses it then, which the engine (mistral.rs {}) cannot for {}. Take that tensor \
             out if it is not meant, or load another model.",
            crate::version::ENGINE_VERSION,
            as_given.architecture
        ))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::inspect::architecture::LayersInWindow;

    fn object(fields: &Value) -> &Map<String, Value> {
        fields.as_object().expect("an object")
    }

    fn config_of(architecture: &str, fields: &Value) -> ModelConfig {
        let translated = TranslatedConfig {
            fields: object(fields).clone(),
            limits: Limits::default(),
            in_window: LayersInWindow::default(),
        };
        ModelConfig::from_fields(architecture.into(), &translated)
    }

    fn config(fields: &Value) -> ModelConfig {
        config_of("X", fields)
    }

    #[bounded::test]
    fn sizes_are_derived_where_they_are_not_given() {
        let config = config(&json!({
            "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2,
            "max_position_embeddings": 256, "vocab_size": 261,
        }));
        assert_eq!((config.shape.kv_heads, config.shape.head_size), (4, 16));
        assert_eq!(config.context_length, Some(256));
    }

    #[bounded::test]
    fn absurd_fields_do_no_harm() {
        let fields = json!({
            "hidden_size": -1, "num_attention_heads": 0, "vocab_size": 1e30, "_name_or_path": "/a/b",
            "max_position_embeddings": "x",
        });
        let config = config(&fields);
        assert_eq!(config.shape, Shape::default());
        let name = name_in(object(&fields));
        assert_eq!((config.context_length, name), (None, None));
    }

    #[bounded::test]
    fn a_gemma_3_without_a_number_has_the_context_that_it_was_made_for() {
        let fields = json!({"max_position_embeddings": 1_u64 << 32});
        let config = config_of("Gemma3ForCausalLM", &fields);
        assert_eq!(config.context_length, Some(131_072));
    }

    #[bounded::test]
    fn a_name_is_that_of_the_whole_or_else_of_the_text_half() {
        let of = |fields: Value| name_in(object(&fields));
        let half = json!({"_name_or_path": "half"});
        assert_eq!(of(json!({"text_config": half})), Some("half".into()));
        let whole = json!({"_name_or_path": "whole", "text_config": half});
        assert_eq!(of(whole), Some("whole".into()));
    }

    #[bounded::test]
    fn more_layers_or_experts_than_any_model_has_are_refused_in_each_half() {
        const MULTIMODAL: [&str; 2] = [
            "Gemma3ForConditionalGeneration",
            "Qwen3VLForConditionalGeneration",
        ];
        let refusal = |name: &str, kind, fields: &Value| {
            let read = ModelConfig::translated(name.into(), kind, object(fields).clone());
            read.expect_err("too many").message
        };
        let many = json!({"num_hidden_layers": u64::MAX});
        let experts = |name: &str| json!({"num_hidden_layers": 2, name: 1e14});
        for name in MULTIMODAL {
            for whole in [json!(null), json!(2), json!(u64::MAX)] {
                let fields = json!({"num_hidden_layers": whole, "text_config": many});
                let error = refusal(name, ModelKind::Multimodal, &fields);
                assert!(error.contains("claims"), "{error}");
            }
            let error = refusal(name, ModelKind::Multimodal, &many);
            assert!(error.contains("claims"), "{error}");
        }
        for (name, fields) in [
            ("LlamaForCausalLM", many),
            ("LlamaForCausalLM", json!({"num_hidden_layers": 1e12})),
            (
                "GraniteMoeHybridForCausalLM",
                json!({"num_hidden_layers": 1e12}),
            ),
            ("MixtralForCausalLM", experts("num_local_experts")),
        ] {
            let error = refusal(name, ModelKind::Text, &fields);
            assert!(error.contains("claims"), "{error}");
        }
        for name in EXPERTS {
            assert!(check_counts(object(&experts(name))).is_err(), "{name}");
        }
    }
}
