//! Adapters that cannot be used, each refused by its name and in words.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, ModelState};
use hangar_tests::{
    fixtures::{Lora, Quantization, Shape},
    refusals::{assert_left_behind, refusal},
    server::TestServer,
};
use serde_json::json;
use tonic::Code;

use super::{adapter, demo, generate_text, info, with_adapter};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

fn sound() -> Lora {
    Lora::random(&Shape::TINY, 4, 1)
}

/// Adapters that are well written and do not fit, with a word of the refusal.
fn unfit() -> Vec<(Lora, &'static str)> {
    let set = |field: &str, value| sound().set(field, value);
    vec![
        (set("r", json!(0)), "usable r"),
        (set("r", json!(8)), "[8, 64]"),
        (set("lora_alpha", json!("much")), "lora_alpha"),
        (set("use_dora", json!(true)), "DoRA"),
        (set("rank_pattern", json!({"q_proj": 2})), "rank_pattern"),
        (
            set("modules_to_save", json!(["lm_head"])),
            "modules_to_save",
        ),
        (set("bias", json!("lora_only")), "biases"),
        (set("peft_type", json!("ADALORA")), "ADALORA"),
        (set("init_lora_weights", json!("pissa")), "pissa"),
        (set("target_modules", json!(["k_proj"])), "target_modules"),
        (
            set("target_modules", json!(["q_proj", "k_proj", "v_proj"])),
            "k_proj",
        ),
        (Lora::random(&Shape::WIDE, 4, 1), "tiny/base"),
        (sound().renamed("layers.1", "layers.7"), "layers.7"),
        (
            sound().renamed("self_attn.q_proj", "attention.q_proj"),
            "attention.q_proj",
        ),
        (sound().without("layers.1"), "layers.1"),
        (sound().without("lora_B"), "only one of the two"),
        (sound().without("lora"), "no tensors"),
        (sound().renamed("lora_B", "lora_magnitude_vector"), "DoRA"),
        (sound().renamed("lora_A", "lora_embedding_A"), "embedding"),
    ]
}

/// Spoils an adapter in a directory.
type SpoilAdapter = fn(&Path) -> Result<()>;

/// What is done to the directory of a sound adapter, with a word of the refusal.
fn spoilt() -> Vec<(SpoilAdapter, &'static str)> {
    vec![
        (
            |at| Ok(fs::remove_file(at.join(CONFIG))?),
            "no adapter_config.json",
        ),
        (
            |at| Ok(fs::remove_file(at.join(WEIGHTS))?),
            "no adapter_model.safetensors",
        ),
        (
            |at| Ok(fs::rename(at.join(WEIGHTS), at.join("adapter_model.bin"))?),
            "pickled",
        ),
        (|at| Ok(fs::write(at.join(CONFIG), "{nope")?), "malformed"),
        (|at| Ok(fs::write(at.join(CONFIG), "[]")?), "malformed"),
        (
            |at| Ok(fs::write(at.join(WEIGHTS), "garbage")?),
            "no intact safetensors",
        ),
        (|at| Ok(fs::write(at.join(WEIGHTS), [255; 64])?), "claims"),
        (
            |at| {
                let file = OpenOptions::new().write(true).open(at.join(WEIGHTS))?;
                Ok(file.set_len(file.metadata()?.len() - 8)?)
            },
            "cut off",
        ),
        (
            |at| {
                fs::remove_file(at.join(WEIGHTS))?;
                Ok(fs::create_dir(at.join(WEIGHTS))?)
            },
            "directory",
        ),
    ]
}

/// Makes sure that a load fails for its adapter, and says so here and there.
async fn assert_refused(server: &TestServer, id: &str, path: &Path, word: &str) -> Result<()> {
    let spec = with_adapter(&server.fixtures.llama()?, path);
    let load = server.load(id, spec).await;
    let refusal = refusal(load, Code::FailedPrecondition, ErrorReason::ModelUnusable);
    let message = refusal.message();
    assert!(message.contains(word), "{word:?} is not in {message:?}");
    assert!(message.contains("adapter one "), "{message:?}");
    let status = info(&server.client, id).await?.status.context("a status")?;
    assert_eq!(
        (status.state(), &*status.reason, status.worker_pid),
        (ModelState::Failed, "MODEL_UNUSABLE", 0)
    );
    // What the load left behind is named behind that.
    assert_left_behind(&status.message, message);
    Ok(())
}

#[hangar_tests::test]
async fn an_adapter_that_does_not_fit_fails_the_load_and_harms_nothing() -> Result<()> {
    let server = TestServer::real().start().await?;
    let path = server.fixtures.adapter("sound", &sound())?;
    let sound = with_adapter(&server.fixtures.llama()?, &path);
    server.load("sound", sound).await?;
    let before = generate_text(&server.client, "sound").await?;
    for (n, (lora, word)) in unfit().into_iter().enumerate() {
        let path = server.fixtures.adapter(&format!("adapter-{n}"), &lora)?;
        assert_refused(&server, &format!("m{n}"), &path, word).await?;
    }
    assert_eq!(generate_text(&server.client, "sound").await?, before);
    Ok(())
}

#[hangar_tests::test]
async fn spoilt_adapter_files_are_named() -> Result<()> {
    let server = TestServer::real().start().await?;
    for (n, (spoil, word)) in spoilt().into_iter().enumerate() {
        let path = server.fixtures.adapter(&format!("adapter-{n}"), &sound())?;
        spoil(&path)?;
        assert_refused(&server, &format!("m{n}"), &path, word).await?;
    }
    Ok(())
}

#[hangar_tests::test]
async fn an_adapter_is_a_directory_that_is_there() -> Result<()> {
    let server = TestServer::real().start().await?;
    let file = server.fixtures.root().join("file");
    fs::write(&file, "x")?;
    assert_refused(&server, "file", &file, "is a file").await?;
    let missing = with_adapter(
        &server.fixtures.llama()?,
        &server.fixtures.root().join("none"),
    );
    let load = server.load("missing", missing).await;
    let refusal = refusal(load, Code::FailedPrecondition, ErrorReason::ModelUnusable);
    assert!(refusal.message().contains("models/none"), "{refusal}");
    Ok(())
}

#[hangar_tests::test]
async fn models_that_take_no_adapters_say_so() -> Result<()> {
    let server = TestServer::real().start().await?;
    let path = server.fixtures.adapter("adapter", &sound())?;
    let gguf: PathBuf = server.fixtures.llama_gguf(Quantization::F32)?;
    let load = server.load("gguf", with_adapter(&gguf, &path)).await;
    let refused = refusal(load, Code::FailedPrecondition, ErrorReason::ModelUnusable);
    assert!(refused.message().contains("GGUF"), "{refused}");
    // The demo model has other sizes than the one that this adapter is for.
    let load = server.load("demo", demo(vec![adapter("one", &path)])).await;
    let refused = refusal(load, Code::FailedPrecondition, ErrorReason::ModelUnusable);
    assert!(refused.message().contains("tiny/base"), "{refused}");
    Ok(())
}
