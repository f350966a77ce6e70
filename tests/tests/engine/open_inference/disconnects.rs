//! Callers that go away, and callers that do not read.

use anyhow::{Context, Result};
use hangar_client::inference::{
    ModelInferRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
};
use hangar_tests::{background::Background, server::DEADLINE};
use tokio::time::timeout;
use tonic::transport::Endpoint;

use super::{InferenceServer, flag, streams::InferStream};

/// Tokens of an answer that takes seconds.
const LONG: u32 = 16_000;

fn streaming(server: &InferenceServer, prompt: &str, max_tokens: u32) -> ModelInferRequest {
    let mut request = server.greedy(prompt, max_tokens);
    request.inputs[2] = flag("stream", true);
    request
}

#[hangar_tests::test]
async fn a_caller_that_goes_away_ends_all_its_requests() -> Result<()> {
    let server = InferenceServer::long(|spec| spec.max_concurrency = 1).await?;
    let worker = server.worker().await?;
    let before = server.expected("Hi", 20).await?;
    let mut call = InferStream::begin(&server).await?;
    for _ in 0..4 {
        call.requests
            .send(streaming(&server, "Hello", LONG))
            .await?;
    }
    call.next().await?;
    server.until_occupancy(1, 3).await?;
    drop(call);
    server.until_occupancy(0, 0).await?;
    let after = timeout(DEADLINE, server.expected("Hi", 20)).await??;
    assert_eq!(after, before);
    assert_eq!(server.worker().await?, worker);
    let metrics = server.until_cancelled(4).await?;
    assert_eq!(
        (metrics.requests_succeeded, metrics.requests_failed),
        (2, 0)
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_caller_of_one_answer_that_goes_away_ends_it() -> Result<()> {
    let server = InferenceServer::long(|_| ()).await?;
    let (mut stub, request) = (server.stub(), server.greedy("Hello", LONG));
    let call = Background::start(async move { stub.model_infer(request).await });
    server.until_occupancy(1, 0).await?;
    drop(call);
    server.until_occupancy(0, 0).await?;
    server.until_cancelled(1).await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_caller_that_does_not_read_keeps_no_place_from_others() -> Result<()> {
    let server = InferenceServer::long(|spec| spec.max_concurrency = 1).await?;
    let expected = server.expected("Hello", 800).await?;
    let endpoint = Endpoint::from_shared(server.url())?.initial_stream_window_size(1024);
    let mut slow = GrpcInferenceServiceClient::new(endpoint.connect().await?);
    let requests = (0..3).map(|n| ModelInferRequest {
        id: n.to_string(),
        ..streaming(&server, "Hello", 800)
    });
    let requests = tokio_stream::iter(requests.collect::<Vec<_>>());
    let mut responses = slow.model_stream_infer(requests).await?.into_inner();
    // All three run to their end although nobody reads, and so does one after them.
    let other = timeout(DEADLINE, server.expected("Hello", 800)).await??;
    assert_eq!(other, expected);
    let mut texts = vec![String::new(); 3];
    while let Some(response) = responses.message().await? {
        let response = response.infer_response.context("a response")?;
        let text = super::text_of(&response, "text_output").context("a text")?;
        texts[response.id.parse::<usize>()?].push_str(&text);
    }
    assert_eq!(texts, [expected.as_str(); 3]);
    Ok(())
}
