//! How positions are told, in each form that config.json has had.

use anyhow::{Context, Result};
use hangar_client::GenerateEvent;
use hangar_tests::fixtures::Reference;
use serde_json::{Value, json};

use crate::House;

/// The likelihoods of an answer by a model with changed fields.
async fn numbers(house: &House, name: &str, change: impl FnOnce(&mut Value)) -> Result<Vec<f32>> {
    let mut model = Reference::all()?
        .into_iter()
        .find(|model| model.name == name)
        .context("the model")?;
    change(&mut model.config);
    house.load_path(&house.fixtures.reference(&model)?).await?;
    let answer = house
        .client
        .generate("m")
        .prompt("a longer prompt")
        .temperature(0.0);
    let mut stream = answer.logprobs(0).max_tokens(8).stream().await?;
    let mut numbers = Vec::new();
    while let Some(event) = stream.next().await {
        if let GenerateEvent::Chunk(chunk) = event? {
            numbers.extend(chunk.logprobs.iter().map(|told| told.logprob));
        }
    }
    Ok(numbers)
}

#[tokio::test]
async fn the_same_positions_in_another_form_give_the_same_numbers() -> Result<()> {
    let house = House::new().await?;
    let plain = numbers(&house, "llama", |_| {}).await?;
    let old = numbers(&house, "llama", |config| {
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
    let new = numbers(&house, "llama", linear("rope_type")).await?;
    assert_ne!(new, plain);
    assert_eq!(numbers(&house, "llama", linear("type")).await?, new);
    Ok(())
}
