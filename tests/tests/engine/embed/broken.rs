//! Embedding models that cannot be loaded: each says why.

use std::path::Path;

use anyhow::{Context, Result};
use hangar_client::v1::{DataType, ErrorReason, ModelSpec};
use hangar_tests::{
    fixtures::Embedding::{self, Gemma, Qwen3},
    refusals::refusal,
    server::{TestServer, spec},
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use tonic::Code;

use super::{Vectors, change_json, copy};

type Change = fn(&Path) -> Result<()>;

fn remove(path: &Path, file: &str) -> Result<()> {
    Ok(std::fs::remove_file(path.join(file))?)
}

fn set(path: &Path, file: &str, field: &str, value: Value) -> Result<()> {
    change_json(&path.join(file), |json| json[field] = value)
}

/// Modules in place of those that there are.
fn modules(path: &Path, change: impl FnOnce(&mut Vec<Value>)) -> Result<()> {
    change_json(&path.join("modules.json"), |json| {
        if let Some(modules) = json.as_array_mut() {
            change(modules);
        }
    })
}

/// Makes a number of the embedding no number.
fn poison(path: &Path) -> Result<()> {
    let file = path.join("model.safetensors");
    let bytes = std::fs::read(&file)?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let mut data = tensors.tensor("norm.weight")?.data().to_vec();
    data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let shape = tensors.tensor("norm.weight")?.shape().to_vec();
    let mut all: Vec<_> = tensors.tensors();
    let norm = all.iter_mut().find(|(name, _)| name == "norm.weight");
    norm.context("a norm")?.1 = TensorView::new(Dtype::F32, shape, &data)?;
    Ok(std::fs::write(&file, safetensors::serialize(all, None)?)?)
}

const CHANGES: &[(Embedding, Change, &str)] = &[
    (Qwen3, |path| remove(path, "modules.json"), "modules.json"),
    (
        Qwen3,
        |path| remove(path, "1_Pooling/config.json"),
        "pooling",
    ),
    (
        Gemma,
        |path| remove(path, "2_Dense/config.json"),
        "dense layer",
    ),
    (
        Gemma,
        |path| remove(path, "2_Dense/model.safetensors"),
        "dense layer",
    ),
    (
        Gemma,
        |path| set(path, "2_Dense/config.json", "out_features", json!(16)),
        "dense layer",
    ),
    (
        Gemma,
        |path| set(path, "2_Dense/config.json", "in_features", json!(16)),
        "dense layer",
    ),
    (
        Gemma,
        |path| {
            let tanh = json!("torch.nn.modules.activation.Tanh");
            set(path, "2_Dense/config.json", "activation_function", tanh)
        },
        "activation",
    ),
    (
        Qwen3,
        |path| {
            let (file, mode) = ("1_Pooling/config.json", "pooling_mode_cls_token");
            set(path, file, mode, json!(true))
        },
        "cls and lasttoken",
    ),
    (
        Gemma,
        |path| {
            let field = "word_embedding_dimension";
            set(path, "1_Pooling/config.json", field, json!(32))
        },
        "32 numbers",
    ),
    (
        Qwen3,
        |path| modules(path, |modules| modules.truncate(1)),
        "no Transformer and Pooling",
    ),
    (
        Qwen3,
        |path| modules(path, |modules| modules[1]["path"] = json!("../1_Pooling")),
        "no directory",
    ),
    (
        Qwen3,
        |path| modules(path, |modules| modules[2]["type"] = json!("a.LSTM")),
        "LSTM",
    ),
    (
        Qwen3,
        |path| set(path, "config.json", "architectures", json!(["BertModel"])),
        "BertModel",
    ),
    (
        Qwen3,
        |path| set(path, "config.json", "attention_bias", json!(true)),
        "attention_bias",
    ),
    (
        Qwen3,
        |path| {
            let yarn = json!({"rope_type": "yarn", "factor": 4.0});
            set(path, "config.json", "rope_scaling", yarn)
        },
        "rope_scaling.rope_type",
    ),
    (
        Qwen3,
        |path| set(path, "config.json", "is_causal", json!(false)),
        "is_causal",
    ),
    (
        Gemma,
        |path| {
            let field = "use_bidirectional_attention";
            set(path, "config.json", field, json!(false))
        },
        "use_bidirectional_attention",
    ),
    (
        Gemma,
        |path| set(path, "2_Dense/config.json", "use_residual", json!(true)),
        "use_residual",
    ),
    (
        Gemma,
        |path| set(path, "config.json", "num_hidden_layers", json!(3)),
        "layers.2",
    ),
    (Qwen3, poison, "not finite"),
    (Gemma, poison, "not finite"),
];

#[hangar_tests::test]
async fn unusable_embedding_files_fail_the_load_with_the_reason() -> Result<()> {
    let server = TestServer::embedding(Qwen3).await?;
    for (number, (kind, change, word)) in CHANGES.iter().enumerate() {
        let path = copy(&server.fixtures, &server.fixtures.embedding(*kind)?)?;
        change(&path)?;
        let load = server.client.load(format!("broken-{number}"));
        let refusal = refusal(
            load.spec(spec(&path)).wait().await,
            Code::FailedPrecondition,
            ErrorReason::ModelUnusable,
        );
        assert!(refusal.message().contains(word), "{word}: {refusal}");
    }
    // The other model has not noticed anything.
    server.vector("Hello").await?;
    Ok(())
}

#[hangar_tests::test]
async fn what_a_spec_cannot_ask_of_an_embedding_model_fails_the_load() -> Result<()> {
    let server = TestServer::embedding(Qwen3).await?;
    type Change = fn(&mut ModelSpec);
    let changes: [(Embedding, Change, &str); 4] = [
        (Gemma, |spec| spec.set_dtype(DataType::F16), "F16"),
        (Gemma, |spec| spec.set_dtype(DataType::Bf16), "BF16"),
        (Qwen3, |spec| spec.quantization = "q4k".into(), "q4k"),
        (Qwen3, |spec| spec.context_length = 257, "257"),
    ];
    for (number, (kind, change, word)) in changes.into_iter().enumerate() {
        let mut spec = spec(&server.fixtures.embedding(kind)?);
        change(&mut spec);
        let load = server.client.load(format!("wrong-{number}")).spec(spec);
        let refusal = refusal(
            load.wait().await,
            Code::FailedPrecondition,
            ErrorReason::ModelUnusable,
        );
        assert!(refusal.message().contains(word), "{word}: {refusal}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn the_last_token_can_be_had_in_f16() -> Result<()> {
    let server = TestServer::embedding_with(Qwen3, |spec| spec.set_dtype(DataType::F16)).await?;
    let half = server.vector("Hello").await?;
    assert!((super::length(&half) - 1.0).abs() < 1e-6);
    let load = server.client.load("whole");
    let load = load.spec(spec(&server.fixtures.embedding(Qwen3)?));
    load.wait().await?;
    let whole = server.client.embed("whole").input("Hello").send().await?;
    let distance = super::distance(&half, &whole.embeddings[0].values);
    assert!(distance < 0.01, "{distance}");
    Ok(())
}
