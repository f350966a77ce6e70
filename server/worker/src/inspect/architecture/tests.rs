//! Configurations of architectures: what is handed to the engine, and what is refused.

use serde_json::{Value, json};

use super::*;

fn llama() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "vocab_size": 261, "hidden_size": 64,
        "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 128,
    })
}

fn with(mut fields: Value, more: Value) -> Map<String, Value> {
    let more = more.as_object().cloned().unwrap_or_default();
    let fields = fields.as_object_mut().expect("an object");
    fields.extend(more);
    fields.clone()
}

fn translated(architecture: &str, more: Value) -> Result<TranslatedConfig, String> {
    let architecture = Architecture::of(architecture).expect("a known one");
    let fields = with(llama(), more);
    let architecture = architecture.computed_by(&fields);
    architecture
        .translate(&fields)
        .map_err(|failure| failure.message)
}

fn refusal(architecture: &str, more: Value) -> String {
    translated(architecture, more).expect_err("refused")
}

#[test]
fn both_forms_of_rotations_are_read() {
    let of = |more| translated("LlamaForCausalLM", more).expect("fields").fields;
    let new = json!({"rope_parameters": {"rope_type": "linear", "rope_theta": 5e5, "factor": 2.0}});
    let old = json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}});
    assert_eq!(of(new.clone()), of(old));
    assert_eq!(
        of(new)["rope_scaling"],
        json!({"rope_type": "linear", "factor": 2.0})
    );
    let default = of(json!({"rope_scaling": {"rope_type": "default"}}));
    assert_eq!(
        (&default["rope_theta"], default.get("rope_scaling")),
        (&json!(10_000.0), None)
    );
}

#[test]
fn rotations_that_the_engine_lacks_are_refused_by_name() {
    let yarn = json!({"rope_type": "yarn", "factor": 4.0});
    for field in ["rope_scaling", "rope_parameters"] {
        let error = refusal("Qwen3ForCausalLM", json!({field: yarn}));
        assert!(
            error.contains(&format!("{field}.rope_type")) && error.contains("yarn"),
            "{error}"
        );
    }
}

#[test]
fn what_the_engine_leaves_out_is_refused_by_name() {
    for (field, value) in [
        ("attention_bias", json!(true)),
        ("mlp_bias", json!(true)),
        ("hidden_act", json!("mish")),
    ] {
        let error = refusal("LlamaForCausalLM", json!({field: value}));
        assert!(error.contains(field) && !error.contains("Get "), "{error}");
    }
}

#[test]
fn fields_that_nobody_uses_may_hold_anything() {
    let odd = json!({"time_step_limit": null, "sp": {"a": [1e300]}, "router": "x", "attention_dropout": "?"});
    assert!(translated("LlamaForCausalLM", odd).is_ok());
}

#[test]
fn heads_of_their_own_width_are_computed_by_mistral() {
    let fields = translated("LlamaForCausalLM", json!({"head_dim": 32}))
        .expect("fields")
        .fields;
    assert_eq!(fields["architectures"], json!(["MistralForCausalLM"]));
    assert_eq!(
        (&fields["head_dim"], fields.get("sliding_window")),
        (&json!(32), None)
    );
}

#[test]
fn windows_bound_what_is_computed_at_once() {
    let of = |name, more| translated(name, more).expect("fields").limits;
    assert_eq!(of("MistralForCausalLM", json!({})).max_prefill, Some(4096));
    assert_eq!(
        of("MistralForCausalLM", json!({"sliding_window": null})),
        Limits::default()
    );
    let on = json!({"use_sliding_window": true, "sliding_window": 16, "max_window_layers": 1});
    assert_eq!(of("Qwen3ForCausalLM", on.clone()).max_prefill, Some(16));
    assert_eq!(of("Qwen2ForCausalLM", on).max_sequence, Some(16));
    let off = json!({"use_sliding_window": false, "sliding_window": 16});
    assert_eq!(of("Qwen2ForCausalLM", off), Limits::default());
}

#[test]
fn layers_in_another_order_are_refused() {
    let types = json!({"use_sliding_window": true, "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"]});
    assert!(refusal("Qwen3ForCausalLM", types).contains("layer_types"));
}

#[test]
fn every_architecture_names_its_tensors() {
    for architecture in table::all() {
        let more = json!({"layer_types": ["attention", "attention"], "tie_word_embeddings": true,
            "num_local_experts": 0, "num_experts_per_tok": 2});
        let fields = with(llama(), more);
        if let Ok(translated) = architecture.translate(&fields) {
            let names = architecture.tensors(&translated.fields);
            assert!(names.len() > 10, "{}: {names:?}", architecture.name);
        }
    }
}
