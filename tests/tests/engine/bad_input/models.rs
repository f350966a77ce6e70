//! Models that cannot be loaded, or that load and cannot do everything.

use std::{
    fs::OpenOptions,
    io::{Seek, SeekFrom, Write},
};

use anyhow::Result;
use hangar_client::v1::{DataType, ErrorReason, LoadOutcome, ModelState};
use hangar_tests::{
    fixtures::{Broken, Effect},
    refusals::{assert_left_behind, refusal},
    server::spec,
};
use tonic::Code;

use super::{HealthyServer, assert_failed};

fn with(effect: Effect) -> impl Iterator<Item = Broken> {
    Broken::ALL
        .into_iter()
        .filter(move |broken| broken.effect() == effect)
}

#[hangar_tests::test]
async fn an_unusable_model_fails_with_a_reason_and_harms_nothing() -> Result<()> {
    let server = HealthyServer::new().await?;
    for broken in with(Effect::Unusable) {
        let id = format!("{broken:?}");
        let mut transitions = server.follow(&id).await?;
        let load = server
            .client
            .load(&id)
            .spec(spec(&server.fixtures.broken(broken)?));
        let refusal = refusal(
            load.wait().await,
            Code::FailedPrecondition,
            ErrorReason::ModelUnusable,
        );
        let message = refusal.message();
        let states = transitions.states_to(ModelState::Failed).await?;
        assert!(!states.contains(&ModelState::Ready), "{id}: {states:?}");
        let seen = transitions.current().cloned().unwrap_or_default();
        assert_failed(&seen, "MODEL_UNUSABLE", message);
        let model = server.model(&id).await?;
        assert_failed(&model.status.unwrap_or_default(), "MODEL_UNUSABLE", message);
        let record = &model.recent_loads[0];
        assert_eq!(record.outcome(), LoadOutcome::Failed);
        assert_eq!(record.reason, "MODEL_UNUSABLE");
        assert_left_behind(&record.message, message);
        server.is_unharmed().await?;
        let unload = server.client.unload(&id).send().await?;
        assert!(!unload.was_loaded, "{id}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn paths_without_a_model_are_not_registered() -> Result<()> {
    let server = HealthyServer::new().await?;
    for broken in with(Effect::NoModel) {
        let spec = spec(&server.fixtures.broken(broken)?);
        let load = server.client.load("m").spec(spec).wait().await;
        refusal(load, Code::FailedPrecondition, ErrorReason::ModelUnusable);
        let unknown = server.client.info().model("m").send().await;
        refusal(unknown, Code::NotFound, ErrorReason::ModelNotFound);
    }
    server.is_unharmed().await
}

#[hangar_tests::test]
async fn a_repaired_model_loads() -> Result<()> {
    let server = HealthyServer::new().await?;
    let path = server.fixtures.broken(Broken::Truncated)?;
    let load = || server.client.load("m").spec(spec(&path)).wait();
    refusal(
        load().await,
        Code::FailedPrecondition,
        ErrorReason::ModelUnusable,
    );
    let weights = "model.safetensors";
    std::fs::copy(server.fixtures.llama()?.join(weights), path.join(weights))?;
    load().await?;
    server.client.unload("m").send().await?;
    server.is_unharmed().await
}

#[hangar_tests::test]
async fn without_a_sound_chat_template_a_model_completes_and_does_not_chat() -> Result<()> {
    let server = HealthyServer::new().await?;
    for broken in with(Effect::NoChat) {
        let load = server
            .client
            .load("m")
            .spec(spec(&server.fixtures.broken(broken)?));
        load.force_reload().wait().await?;
        let chat = server
            .client
            .generate("m")
            .message("user", "Hi")
            .text()
            .await;
        let refusal = refusal(
            chat,
            Code::FailedPrecondition,
            ErrorReason::UnsupportedByModel,
        );
        assert!(
            refusal.message().contains("chat template"),
            "{broken:?}: {refusal}"
        );
        assert!(
            refusal.message().contains("prompt"),
            "{broken:?}: {refusal}"
        );
        let reported = refusal.message().contains("broken");
        assert_eq!(reported, broken == Broken::BadTemplate, "{refusal}");
        let prompt = server.client.generate("m").prompt("Hi").max_tokens(5);
        assert_eq!(prompt.text().await?.text.len(), 5, "{broken:?}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_tokenizer_with_more_tokens_than_the_model_is_no_danger() -> Result<()> {
    let server = HealthyServer::new().await?;
    let path = server.fixtures.broken(Broken::VocabularyTooBig)?;
    server.client.load("m").spec(spec(&path)).wait().await?;
    let tokens = server.client.tokenize("m", "<extra>").send().await?;
    assert_eq!(tokens, [300]);
    let beyond = server.client.generate("m").prompt("a<extra>b").text().await;
    let refusal = refusal(beyond, Code::InvalidArgument, ErrorReason::InvalidField);
    assert!(refusal.message().contains("300"), "{refusal}");
    let answer = server.client.generate("m").prompt("ab").max_tokens(5);
    assert_eq!(answer.text().await?.text.len(), 5);
    Ok(())
}

#[hangar_tests::test]
async fn a_model_that_loads_and_cannot_answer_fails() -> Result<()> {
    let server = HealthyServer::new().await?;
    let mut bf16 = spec(&server.fixtures.llama()?);
    bf16.set_dtype(DataType::Bf16);
    let load = server.client.load("bf16").spec(bf16).wait().await;
    let refusal = refusal(load, Code::FailedPrecondition, ErrorReason::ModelUnusable);
    let message = refusal.message();
    assert!(
        message.contains("f16") && message.contains("f32"),
        "{message}"
    );
    let status = server.model("bf16").await?.status.unwrap_or_default();
    assert_failed(&status, "MODEL_UNUSABLE", message);
    server.is_unharmed().await
}

#[hangar_tests::test]
async fn weights_of_nan_are_found_before_ready() -> Result<()> {
    let server = HealthyServer::new().await?;
    let path = server.fixtures.broken(Broken::NoTemplate)?;
    let weights = path.join("model.safetensors");
    let mut file = OpenOptions::new().write(true).open(weights)?;
    file.seek(SeekFrom::End(-65_536))?;
    file.write_all(&f32::NAN.to_le_bytes().repeat(16_384))?;
    let load = server.client.load("nan").spec(spec(&path)).wait().await;
    let refusal = refusal(load, Code::FailedPrecondition, ErrorReason::ModelUnusable);
    assert!(refusal.message().contains("cannot answer"), "{refusal}");
    server.is_unharmed().await
}
