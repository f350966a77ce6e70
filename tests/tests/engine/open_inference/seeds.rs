//! Seeds: they hold whatever the form and the protocol of a request.

use anyhow::{Context, Result};
use hangar_client::inference::{ModelInferRequest, infer_parameter::ParameterChoice};

use super::{InferenceServer, parameter, raw, streams::InferStream, text, text_of};

/// A request that draws its answer.
fn drawn(server: &InferenceServer, seed: &str) -> ModelInferRequest {
    let json = format!(r#"{{"temperature": 1.5, "max_tokens": 60, "seed": {seed}}}"#);
    let mut request = server.greedy("Hello", 1);
    request.inputs[1] = text("sampling_parameters", &json);
    request
}

async fn answer_to(server: &InferenceServer, request: ModelInferRequest) -> Result<String> {
    let response = server.stub().model_infer(request).await?.into_inner();
    text_of(&response, "text_output").context("a text")
}

#[hangar_tests::test]
async fn a_seed_gives_the_same_answer_in_every_form_and_by_generate() -> Result<()> {
    let server = InferenceServer::tiny().await?;
    let by_generate = server.client.generate("m").prompt("Hello").seed(7);
    let by_generate = by_generate.temperature(1.5).max_tokens(60).text().await?;
    let mut by_parameters = drawn(&server, "7");
    by_parameters.inputs.remove(1);
    for (name, choice) in [
        ("temperature", ParameterChoice::DoubleParam(1.5)),
        ("max_tokens", ParameterChoice::Int64Param(60)),
        ("seed", ParameterChoice::Uint64Param(7)),
    ] {
        let parameters = &mut by_parameters.parameters;
        parameters.insert(name.into(), parameter(choice));
    }
    for request in [
        drawn(&server, "7"),
        raw(drawn(&server, "7")),
        drawn(&server, "\"7\""),
        by_parameters,
    ] {
        assert_eq!(answer_to(&server, request).await?, by_generate.text);
    }
    let mut call = InferStream::begin(&server).await?;
    let response = call.ask(drawn(&server, "7")).await?;
    let response = response[0].infer_response.as_ref().context("a response")?;
    assert_eq!(text_of(response, "text_output"), Some(by_generate.text));
    Ok(())
}

#[hangar_tests::test]
async fn another_seed_gives_another_answer() -> Result<()> {
    let server = InferenceServer::tiny().await?;
    let mut answers = Vec::new();
    for seed in ["0", "1", "7", "18446744073709551615"] {
        answers.push(answer_to(&server, drawn(&server, seed)).await?);
    }
    answers.sort_unstable();
    answers.dedup();
    assert_eq!(answers.len(), 4);
    Ok(())
}
