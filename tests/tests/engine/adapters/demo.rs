//! The demo model's own adapter.

use anyhow::{Context, Result};
use hangar_client::v1::ModelSpec;
use hangar_tests::{fixtures::Fixtures, server::TestServer, workspace::workspace};
use serde::Deserialize;

use super::{answer_to, demo, info, radio};

/// What the training script found the model to say.
const ANSWERS: &str = include_str!("../../../../server/worker/demo/adapter_answers.json");

/// Where its files are in the repository.
const FILES: &str = "server/worker/demo/adapter";

#[derive(Deserialize)]
struct DemoAnswer {
    prompt: String,
    answer: String,
    answer_without: String,
}

fn answers() -> Result<Vec<DemoAnswer>> {
    let answers: Vec<DemoAnswer> = serde_json::from_str(ANSWERS)?;
    anyhow::ensure!(answers.len() >= 10);
    Ok(answers)
}

#[hangar_tests::test]
async fn a_model_with_an_adapter_and_the_same_model_without_serve_side_by_side() -> Result<()> {
    let server = TestServer::real().start().await?;
    server.load("plain", demo(vec![])).await?;
    server.load("radio", demo(vec![radio()])).await?;
    for answer in answers()? {
        let question = &answer.prompt;
        let with = answer_to(&server.client, "radio", question).await?;
        assert_eq!(with, answer.answer, "{question}");
        let without = answer_to(&server.client, "plain", question).await?;
        assert_eq!(without, answer.answer_without, "{question}");
        assert_ne!(with, without);
    }
    Ok(())
}

#[hangar_tests::test]
async fn merged_adapters_are_reported() -> Result<()> {
    let server = TestServer::real().start().await?;
    server.load("plain", demo(vec![])).await?;
    server.load("radio", demo(vec![radio()])).await?;
    let plain = info(&server.client, "plain").await?.metadata;
    let plain = plain.context("metadata")?;
    assert!(!plain.is_lora && plain.adapters.is_empty() && plain.base_model.is_empty());
    assert_eq!(plain.lora_rank, 0);
    let radio = info(&server.client, "radio").await?.metadata;
    let radio = radio.context("metadata")?;
    assert!(radio.is_lora);
    assert_eq!(
        (radio.lora_rank, radio.adapters.clone()),
        (4, vec!["radio".to_owned()])
    );
    assert_eq!(
        (&*radio.model_name, &*radio.base_model),
        ("hangar-demo", "hangar-demo")
    );
    assert_eq!(radio.parameter_count, plain.parameter_count);
    assert!(radio.size_bytes > plain.size_bytes);
    Ok(())
}

#[hangar_tests::test]
async fn the_files_in_the_repository_are_what_is_built_in() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let files = workspace().join(FILES).canonicalize()?;
    let named = files.to_string_lossy().into_owned();
    let options = TestServer::real().fixtures(&fixtures).root(&files);
    let server = options.start().await?;
    let client = server.connect().await?;
    let load = client.load("m").demo();
    load.adapter("files", &named).wait().await?;
    let load = client.load("n").demo();
    load.demo_adapter("built-in").wait().await?;
    for answer in answers()?.into_iter().take(3) {
        for model in ["m", "n"] {
            assert_eq!(
                answer_to(&client, model, &answer.prompt).await?,
                answer.answer
            );
        }
    }
    Ok(())
}

#[hangar_tests::test]
async fn adapters_are_merged_before_weights_are_quantized_and_such_weights_are_not_kept()
-> Result<()> {
    let server = TestServer::real().start().await?;
    let spec = ModelSpec {
        quantization: "q8_0".to_owned(),
        ..demo(vec![radio()])
    };
    server.load("m", spec).await?;
    let metadata = info(&server.client, "m").await?.metadata;
    let metadata = metadata.context("metadata")?;
    assert_eq!((&*metadata.quantization, metadata.is_lora), ("Q8_0", true));
    for answer in answers()?.into_iter().take(5) {
        assert_eq!(
            answer_to(&server.client, "m", &answer.prompt).await?,
            answer.answer
        );
    }
    let cache = server.client.info().send().await?.cache.unwrap_or_default();
    assert_eq!((cache.hits, cache.misses, cache.entries), (0, 0, 0));
    Ok(())
}
