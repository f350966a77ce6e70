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
    let known = Architecture::of(architecture).expect("a known one");
    let fields = with(llama(), more);
    let computing = known.computed_by(&fields);
    computing
        .translate(architecture, &fields)
        .map_err(|failure| failure.message)
}

fn refusal(architecture: &str, more: Value) -> String {
    translated(architecture, more).expect_err("refused")
}

#[bounded::test]
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

#[bounded::test]
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

#[bounded::test]
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

#[bounded::test]
fn gelu_of_the_first_gemma_is_its_approximation() {
    let of = |architecture, field: &str| {
        let fields = translated(architecture, json!({field: "gelu"})).expect("fields");
        fields.fields[field].clone()
    };
    assert_eq!(of("GemmaForCausalLM", "hidden_act"), "gelu_pytorch_tanh");
    assert_eq!(of("Gemma2ForCausalLM", "hidden_activation"), "gelu");
    assert_eq!(of("LlamaForCausalLM", "hidden_act"), "gelu");
}

#[bounded::test]
fn tokens_that_see_those_after_them_are_refused() {
    for architecture in ["LlamaForCausalLM", "Qwen3ForCausalLM", "Gemma3ForCausalLM"] {
        for off in [json!(false), Value::Null] {
            let error = refusal(architecture, json!({"is_causal": off}));
            assert!(error.contains("is_causal"), "{error}");
        }
        assert!(translated(architecture, json!({"is_causal": true})).is_ok());
    }
}

#[bounded::test]
fn layers_without_positions_are_those_of_the_list() {
    let of = |more| translated("SmolLM3ForCausalLM", more);
    let listed = of(json!({"no_rope_layers": [0, 1]})).expect("fields");
    assert_eq!(listed.fields["no_rope_layers"], json!([0, 1]));
    let by_interval = of(json!({})).expect("fields");
    assert_eq!(by_interval.fields["no_rope_layers"], Value::Null);
    let error = of(json!({"no_rope_layers": [0]})).expect_err("short");
    assert!(error.contains("no_rope_layers"), "{error}");
}

#[bounded::test]
fn fields_that_nobody_uses_may_hold_anything() {
    let odd = json!({"time_step_limit": null, "sp": {"a": [1e300]}, "router": "x", "attention_dropout": "?"});
    assert!(translated("LlamaForCausalLM", odd).is_ok());
}

#[bounded::test]
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

#[bounded::test]
fn refusals_name_the_architecture_of_the_file() {
    for more in [
        json!({"attention_bias": true}),
        json!({"head_dim": 32, "attention_bias": true}),
        json!({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}),
        json!({"head_dim": 32, "rope_scaling": {"rope_type": "llama3"}}),
    ] {
        let error = refusal("LlamaForCausalLM", more);
        assert!(error.contains("for LlamaForCausalLM"), "{error}");
    }
}

#[bounded::test]
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

#[bounded::test]
fn layers_with_a_window_are_those_that_the_engine_gives_one() {
    let of = |name, more| {
        let fields = translated(name, with(more, json!({"num_hidden_layers": 8})).into());
        let LayersInWindow { layers, width } = fields.expect("fields").in_window;
        (layers, width)
    };
    assert_eq!(of("LlamaForCausalLM", json!({})), (0, 0));
    assert_eq!(of("MistralForCausalLM", json!({})), (8, 4096));
    let none = json!({"sliding_window": null});
    assert_eq!(of("MistralForCausalLM", none), (0, 0));
    let upper = json!({"use_sliding_window": true, "sliding_window": 16, "max_window_layers": 3});
    assert_eq!(of("Qwen3ForCausalLM", upper), (5, 16));
    let off = json!({"use_sliding_window": false, "sliding_window": 16, "max_window_layers": 3});
    assert_eq!(of("Qwen3ForCausalLM", off), (0, 0));
    let every_sixth = half(
        "Gemma3ForConditionalGeneration",
        json!({"sliding_window": 16, "num_hidden_layers": 8}),
    );
    let in_window = every_sixth.expect("fields").in_window;
    assert_eq!((in_window.layers, in_window.width), (7, 16));
}

#[bounded::test]
fn a_window_of_qwens_that_is_turned_on_has_a_width_where_none_is_said() {
    let on = json!({"use_sliding_window": true, "max_window_layers": 0});
    let limits = |name| translated(name, on.clone()).expect("fields").limits;
    assert_eq!(limits("Qwen2ForCausalLM").max_sequence, Some(4096));
    assert_eq!(limits("Qwen3ForCausalLM").max_prefill, Some(4096));
    assert_eq!(limits("SmolLM3ForCausalLM"), Limits::default());
    let null = json!({"use_sliding_window": true, "sliding_window": null, "max_window_layers": 0});
    let without = translated("Qwen2ForCausalLM", null).expect("fields");
    assert_eq!(without.limits, Limits::default());
}

#[bounded::test]
fn the_length_of_the_first_training_is_that_of_the_whole_if_it_is_said() {
    let rope = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64});
    let of = |more: Value| {
        let fields = translated("LlamaForCausalLM", more).expect("fields").fields;
        fields["rope_scaling"]["original_max_position_embeddings"].clone()
    };
    assert_eq!(of(json!({"rope_scaling": rope})), 64);
    let both = json!({"rope_scaling": rope, "original_max_position_embeddings": 32});
    assert_eq!(of(both), 32);
}

fn granite(more: Value) -> Result<Map<String, Value>, String> {
    let mut whole = json!({"num_local_experts": 0, "mamba_n_heads": 8});
    let fields = whole.as_object_mut().expect("an object");
    fields.extend(more.as_object().cloned().unwrap_or_default());
    translated("GraniteMoeHybridForCausalLM", whole).map(|it| it.fields)
}

#[bounded::test]
fn layers_of_granite_are_those_that_either_name_lists() {
    let of = |more| granite(more).expect("fields")["layer_types"].clone();
    assert_eq!(of(json!({})), json!(["mamba", "mamba"]));
    let types = json!(["linear_attention", "full_attention"]);
    assert_eq!(
        of(json!({"layer_types": types})),
        json!(["mamba", "attention"])
    );
    let both = json!({"layer_types": types, "layers_block_type": ["attention", "mamba"]});
    assert_eq!(of(both), json!(["attention", "mamba"]));
}

#[bounded::test]
fn heads_of_mamba_have_the_width_that_is_left_to_them() {
    let of = |more| granite(more).expect("fields")["mamba_d_head"].clone();
    assert_eq!(of(json!({})), 16);
    assert_eq!(of(json!({"mamba_d_head": "auto", "mamba_expand": 4})), 32);
    assert_eq!(of(json!({"mamba_d_head": 8})), 8);
}

#[bounded::test]
fn steps_in_time_have_no_limit_or_are_refused() {
    for unbounded in [
        json!([0.0, null]),
        json!([0, {"__float__": "Infinity"}]),
        Value::Null,
    ] {
        assert!(granite(json!({"time_step_limit": unbounded})).is_ok());
    }
    for limit in [json!([0.0, 0.1]), json!([0.001, null])] {
        let error = granite(json!({"time_step_limit": limit})).expect_err("a limit");
        assert!(error.contains("time_step_limit"), "{error}");
    }
}

#[bounded::test]
fn layers_in_another_order_are_refused() {
    let types = json!({"use_sliding_window": true, "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"]});
    assert!(refusal("Qwen3ForCausalLM", types).contains("layer_types"));
}

fn half(architecture: &str, more: Value) -> Result<TranslatedConfig, String> {
    let half = Architecture::of_text_half(architecture).expect("a known one");
    half.translate(architecture, &with(llama(), more))
        .map_err(|failure| failure.message)
}

#[bounded::test]
fn text_halves_are_what_the_reference_has_or_refused() {
    let gemma = "Gemma3ForConditionalGeneration";
    let window = half(gemma, json!({"sliding_window": 16})).expect("fields");
    assert_eq!(window.limits.max_prefill, Some(16));
    let softmax = json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}});
    assert!(
        half(gemma, softmax)
            .expect_err("refused")
            .contains("rope_scaling.rope_type")
    );
    let qwen = "Qwen3VLForConditionalGeneration";
    let sections = json!({"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 1e6});
    for field in ["rope_scaling", "rope_parameters"] {
        let fields = half(qwen, json!({field: sections})).expect("fields").fields;
        assert_eq!(fields["rope_scaling"], json!({"mrope_section": [4, 2, 2]}));
        assert_eq!(fields["rope_theta"], 1e6);
    }
    let default = half(qwen, json!({})).expect("fields").fields;
    assert_eq!(
        default["rope_scaling"],
        json!({"mrope_section": [24, 20, 20]})
    );
    assert_eq!(default["rope_theta"], 5e5);
    for (field, value) in [
        (
            "rope_scaling",
            json!({"rope_type": "yarn", "factor": 4.0, "mrope_section": [4, 2, 2]}),
        ),
        ("attention_bias", json!(true)),
        ("is_causal", json!(false)),
    ] {
        let error = half(qwen, json!({field: value})).expect_err(field);
        assert!(error.contains(field) && error.contains(qwen), "{error}");
    }
}

fn embedding(architecture: &str, more: Value) -> Result<TranslatedConfig, String> {
    let known = Architecture::of_embedding(architecture).expect("a known one");
    known
        .translate(architecture, &with(llama(), more))
        .map_err(|failure| failure.message)
}

#[bounded::test]
fn embedding_models_of_qwen_are_read_whole() {
    for (field, value) in [
        ("rope_scaling", json!({"rope_type": "yarn", "factor": 4.0})),
        ("attention_bias", json!(true)),
        ("is_causal", json!(false)),
    ] {
        for architecture in ["Qwen3ForCausalLM", "Qwen3Model"] {
            let error = embedding(architecture, json!({field: value})).expect_err(field);
            assert!(
                error.contains(field) && error.contains(architecture),
                "{error}"
            );
        }
    }
    // The engine has it in all layers if it is there.
    let off = embedding("Qwen3Model", json!({"sliding_window": 16})).expect("fields");
    assert_eq!(
        (&off.fields["sliding_window"], off.limits),
        (&Value::Null, Limits::default())
    );
    let on = json!({"sliding_window": 16, "use_sliding_window": true, "max_window_layers": 0});
    let on = embedding("Qwen3Model", on).expect("fields");
    assert_eq!(on.limits.as_one_prefill().max_sequence, Some(16));
}

#[bounded::test]
fn embedding_models_of_gemma_see_to_both_sides() {
    let of = |more: Value| {
        let both = json!({"use_bidirectional_attention": true, "sliding_window": 512});
        embedding("Gemma3TextModel", with(both, more).into())
    };
    let fields = of(json!({"final_logit_softcapping": 30.0}))
        .expect("fields")
        .fields;
    // A distance to each side.
    assert_eq!(fields["sliding_window"], 257);
    assert_eq!(fields.get("final_logit_softcapping"), None);
    for off in [json!(false), Value::Null] {
        let error = of(json!({"use_bidirectional_attention": off})).expect_err("one side");
        assert!(error.contains("use_bidirectional_attention"), "{error}");
    }
    let (slides, full) = ("sliding_attention", "full_attention");
    let pattern = of(json!({"layer_types": [slides, full]}))
        .expect("fields")
        .fields;
    assert_eq!(pattern["sliding_window_pattern"], 2);
    assert!(of(json!({"layer_types": [full, slides]})).is_err());
}

#[bounded::test]
fn tensors_are_named_as_they_are_in_files() {
    let names = |known: Option<&'static Architecture>, looks_ahead: bool| {
        let known = known.expect("a known one");
        let fields = json!({"use_bidirectional_attention": looks_ahead});
        let translated = known.translate(known.name, &with(llama(), fields));
        let fields = translated.expect("fields").fields;
        let mut names = known.tensors(&fields).names.into_iter();
        (
            names.next().unwrap_or_default(),
            names.any(|name| name.contains("lm_head")),
        )
    };
    let gemma = Architecture::of_text_half("Gemma3ForConditionalGeneration");
    let qwen = Architecture::of_text_half("Qwen3VLForConditionalGeneration");
    let of = |first: &str, head| (first.to_owned(), head);
    assert_eq!(
        names(gemma, false),
        of("language_model.model.embed_tokens.weight", false)
    );
    assert_eq!(
        names(qwen, false),
        of("model.language_model.embed_tokens.weight", true)
    );
    for name in ["Qwen3ForCausalLM", "Gemma3TextModel"] {
        let bare = Architecture::of_embedding(name);
        assert_eq!(names(bare, true), of("embed_tokens.weight", false));
    }
}

#[bounded::test]
fn the_reference_has_a_model_of_every_architecture() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/reference/models.json"
    );
    let models = std::fs::read_to_string(path).expect("the reference");
    let models: Vec<Value> = serde_json::from_str(&models).expect("models");
    let names = models
        .iter()
        .filter_map(|model| model["config"]["architectures"][0].as_str());
    let known: Vec<_> = names
        .filter_map(Architecture::of)
        .map(|architecture| architecture.name)
        .collect();
    for architecture in table::all() {
        let name = architecture.name;
        assert!(known.contains(&name), "no model of {name}");
    }
}

#[bounded::test]
fn every_architecture_names_its_tensors() {
    for architecture in table::all() {
        let more = json!({"layer_types": ["attention", "attention"], "tie_word_embeddings": true,
            "num_local_experts": 0, "num_experts_per_tok": 2});
        let fields = with(llama(), more);
        if let Ok(translated) = architecture.translate(architecture.name, &fields) {
            let names = architecture.tensors(&translated.fields).names;
            assert!(names.len() > 10, "{}: {names:?}", architecture.name);
        }
    }
}
