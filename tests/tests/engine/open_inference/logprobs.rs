//! Log probabilities: the same as those of Generate, in the form of Triton's vLLM backend.

use anyhow::{Context, Result};
use hangar_client::{
    GenerateEvent,
    inference::{ModelInferRequest, ModelInferResponse},
    v1::TokenLogprob,
};
use serde_json::Value;

use super::{
    InferenceServer, flag, output, outputs, raw, streams::InferStream, text, text_of, with,
};

/// Tokens of each answer.
const TOKENS: u32 = 12;

fn asking(server: &InferenceServer, top: u32) -> ModelInferRequest {
    let json = format!(r#"{{"temperature": 0, "max_tokens": {TOKENS}, "logprobs": {top}}}"#);
    let mut request = server.greedy("Hello", 1);
    request.inputs[1] = text("sampling_parameters", &json);
    let flags = [
        flag("return_logprobs", true),
        flag("return_cumulative_logprob", true),
    ];
    with(request, flags)
}

/// The same from the server's own API.
async fn expected(server: &InferenceServer, top: u32) -> Result<Vec<TokenLogprob>> {
    let request = server.client.generate("m").prompt("Hello").logprobs(top);
    let mut stream = request.temperature(0.0).max_tokens(TOKENS).stream().await?;
    let mut logprobs = Vec::new();
    while let Some(event) = stream.next().await {
        if let GenerateEvent::Chunk(chunk) = event? {
            logprobs.extend(chunk.logprobs);
        }
    }
    assert_eq!(logprobs.len(), TOKENS as usize);
    Ok(logprobs)
}

fn logprobs(response: &ModelInferResponse) -> Result<Vec<Value>> {
    let json = text_of(response, "logprobs").context("log probabilities")?;
    Ok(serde_json::from_str(&json)?)
}

fn cumulative(response: &ModelInferResponse) -> Result<f32> {
    let bytes = outputs(response).remove("cumulative_logprob");
    let bytes = bytes.context("a sum")?.try_into();
    Ok(f32::from_le_bytes(
        bytes.map_err(|_| anyhow::anyhow!("a sum has four bytes"))?,
    ))
}

fn number(value: &Value) -> Option<f32> {
    value.as_f64().map(|number| number as f32)
}

fn assert_same(reported: &[Value], expected: &[TokenLogprob]) {
    assert_eq!(reported.len(), expected.len());
    for (reported, expected) in reported.iter().zip(expected) {
        let own = &reported[expected.token_id.to_string()];
        assert_eq!(own["decoded_token"], expected.text.as_str());
        assert_eq!(number(&own["logprob"]), Some(expected.logprob));
        for (at, top) in expected.top.iter().enumerate() {
            let one = &reported[top.token_id.to_string()];
            assert_eq!(one["rank"], at + 1, "{reported}");
            assert_eq!(number(&one["logprob"]), Some(top.logprob));
        }
    }
}

#[hangar_tests::test]
async fn logprobs_equal_those_of_generate_typed_and_raw() -> Result<()> {
    let server = InferenceServer::tiny().await?;
    for top in [0, 1, 5, 20] {
        let expected = expected(&server, top).await?;
        let sum: f32 = expected.iter().map(|token| token.logprob).sum();
        for request in [asking(&server, top), raw(asking(&server, top))] {
            let response = server.stub().model_infer(request).await?.into_inner();
            assert_same(&logprobs(&response)?, &expected);
            assert!((cumulative(&response)? - sum).abs() < 1e-3);
        }
    }
    Ok(())
}

#[hangar_tests::test]
async fn streamed_responses_have_their_logprobs_and_the_sum_so_far() -> Result<()> {
    let server = InferenceServer::tiny().await?;
    let expected = expected(&server, 3).await?;
    let mut request = asking(&server, 3);
    request.inputs[2] = flag("stream", true);
    let mut call = InferStream::begin(&server).await?;
    let (mut reported, mut sum) = (Vec::new(), 0.0);
    for response in call.ask(request).await? {
        let response = response.infer_response.context("a response")?;
        reported.extend(logprobs(&response)?);
        let own: f32 = expected[..reported.len()].iter().map(|it| it.logprob).sum();
        sum = cumulative(&response)?;
        assert!((sum - own).abs() < 1e-3);
    }
    assert_same(&reported, &expected);
    assert!(sum < 0.0);
    Ok(())
}

#[hangar_tests::test]
async fn naming_the_logprobs_output_requests_them() -> Result<()> {
    let server = InferenceServer::tiny().await?;
    let mut request = server.greedy("Hello", TOKENS);
    request.outputs = vec![output("logprobs")];
    let response = server.stub().model_infer(request).await?.into_inner();
    assert_same(&logprobs(&response)?, &expected(&server, 0).await?);
    Ok(())
}
