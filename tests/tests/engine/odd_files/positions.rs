//! How positions are given, in each form that config.json has had.

use anyhow::Result;
use hangar_client::GenerateEvent;
use hangar_tests::{fixtures::Reference, refusals::wrong_fields};
use serde_json::{Value, json};

use super::OddServer;

/// The likelihoods of an answer by a model with changed fields.
async fn numbers(
    server: &OddServer,
    name: &str,
    change: impl FnOnce(&mut Value),
) -> Result<Vec<f32>> {
    let mut model = Reference::named(name)?;
    change(&mut model.config);
    server
        .load_path(&server.fixtures.reference(&model)?)
        .await?;
    let answer = server
        .client
        .generate("m")
        .prompt("a longer prompt")
        .temperature(0.0);
    let mut stream = answer.logprobs(0).max_tokens(8).stream().await?;
    let mut numbers = Vec::new();
    while let Some(event) = stream.next().await {
        if let GenerateEvent::Chunk(chunk) = event? {
            numbers.extend(chunk.logprobs.iter().map(|reported| reported.logprob));
        }
    }
    Ok(numbers)
}

#[hangar_tests::test]
async fn the_same_positions_in_another_form_give_the_same_numbers() -> Result<()> {
    let server = OddServer::new().await?;
    let plain = numbers(&server, "llama", |_| {}).await?;
    let old = numbers(&server, "llama", |config| {
        config["rope_parameters"] = Value::Null;
        config["rope_theta"] = json!(10_000.0);
        config["rope_scaling"] = json!({"rope_type": "default"});
    });
    assert_eq!(old.await?, plain);
    let linear = |name: &'static str| {
        move |config: &mut Value| {
            config["rope_parameters"] = Value::Null;
            config["rope_scaling"] = json!({name: "linear", "factor": 2.0});
        }
    };
    let new = numbers(&server, "llama", linear("rope_type")).await?;
    assert_ne!(new, plain);
    assert_eq!(numbers(&server, "llama", linear("type")).await?, new);
    Ok(())
}

#[hangar_tests::test]
async fn a_prompt_across_the_switch_of_longrope_is_not_scored_token_by_token() -> Result<()> {
    let server = OddServer::new().await?;
    let model = Reference::named("phi3-longrope")?;
    server
        .load_path(&server.fixtures.reference(&model)?)
        .await?;
    let ask = async |length: usize, scored| {
        let request = server.client.generate("m").prompt("a".repeat(length));
        let request = request.temperature(0.0).max_tokens(1);
        let request = request.with(|request| request.prompt_logprobs = scored);
        request.text().await.map(|_| ())
    };
    ask(63, true).await?;
    ask(65, false).await?;
    assert_eq!(wrong_fields(ask(65, true).await), ["prompt_logprobs"]);
    Ok(())
}
