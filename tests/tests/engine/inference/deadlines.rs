//! Answers that do not end in time.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    Completion, Error, GenerateEvent,
    v1::{ErrorReason, generate_response::Event, inference_service_client::InferenceServiceClient},
};
use hangar_tests::{
    refusals::refusal,
    server::{DEADLINE, TestServer},
    time_enough::with_time_enough,
};
use tokio::time::timeout;
use tonic::{Code, Request, transport::Endpoint};

use super::greedy_request;

/// Tokens of an answer that takes seconds.
const LONG: u32 = 16_000;
const SOON: Duration = Duration::from_millis(300);

fn exceeded(answer: Result<Completion, Error>) {
    refusal(
        answer,
        Code::DeadlineExceeded,
        ErrorReason::DeadlineExceeded,
    );
}

#[hangar_tests::test]
async fn a_requests_timeout_ends_its_answer_in_mid_stream() -> Result<()> {
    let server = TestServer::long(|spec| spec.max_concurrency = 1).await?;
    with_time_enough(SOON, async |limit| {
        let ask = server.greedy("Hello").max_tokens(LONG).timeout(limit);
        let (mut chunks, mut stream) = (0, ask.stream().await);
        while let Ok(answer) = &mut stream {
            match answer.next().await.context("the answer ended")? {
                Ok(GenerateEvent::Chunk(_)) => chunks += 1,
                Ok(done) => anyhow::bail!("{done:?}"),
                Err(error) => stream = Err(error),
            }
        }
        exceeded(Err(stream.err().context("an error")?));
        Ok((chunks > 1).then_some(()))
    })
    .await?;
    let after = server.greedy("Hi").max_tokens(20).text();
    timeout(DEADLINE, after).await??;
    let metrics = server.info().await?.metrics.context("metrics")?;
    assert_eq!(
        (metrics.requests_succeeded, metrics.requests_cancelled),
        (1, 0)
    );
    assert!(metrics.requests_failed > 0);
    Ok(())
}

#[hangar_tests::test]
async fn the_calls_own_deadline_ends_its_answer_in_mid_stream() -> Result<()> {
    let server = TestServer::long(|spec| spec.max_concurrency = 1).await?;
    with_time_enough(SOON, async |limit| {
        let mut request = Request::new(greedy_request("Hello", LONG));
        request.set_timeout(limit);
        let answer = server.client.inference_service().generate(request).await;
        let (mut chunks, mut stream) = (0, answer.map(tonic::Response::into_inner));
        while let Ok(answer) = &mut stream {
            match answer.message().await {
                Ok(response) => {
                    let event = response.context("the answer ended")?.event;
                    anyhow::ensure!(matches!(event, Some(Event::Chunk(_))), "{event:?}");
                    chunks += 1;
                }
                Err(status) => stream = Err(status),
            }
        }
        if chunks < 2 {
            return Ok(None);
        }
        let status = stream.err().context("an error")?;
        exceeded(Err(Error::from_answer(&server.client, status)));
        Ok(Some(()))
    })
    .await?;
    server.until_occupancy(0, 0).await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_deadline_passes_in_the_queue_too() -> Result<()> {
    let server = TestServer::long(|spec| spec.max_concurrency = 1).await?;
    let running = server.greedy("Hello").max_tokens(LONG).stream().await?;
    server.until_occupancy(1, 0).await?;
    exceeded(server.greedy("Hi").timeout(SOON).text().await);
    let mut request = Request::new(greedy_request("Hi", 1));
    request.set_timeout(SOON);
    let answer = server.client.inference_service().generate(request).await;
    let error = answer.map_err(|status| Error::from_answer(&server.client, status));
    // Whether the server or the client's own timer was first is left open.
    assert_eq!(
        error.err().map(|error| error.code()),
        Some(Code::DeadlineExceeded)
    );
    server.until_occupancy(1, 0).await?;
    drop(running);
    server.greedy("Hi").max_tokens(1).text().await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_deadline_holds_for_a_caller_that_does_not_read() -> Result<()> {
    let server = TestServer::long(|spec| spec.max_concurrency = 1).await?;
    let endpoint = Endpoint::from_shared(server.url())?.initial_stream_window_size(1024);
    let stub = InferenceServiceClient::new(endpoint.connect().await?);
    let mut slow = with_time_enough(SOON, async |limit| {
        let mut request = greedy_request("Hello", LONG);
        request.timeout = Some(prost_types::Duration::try_from(limit)?);
        Ok(stub.clone().generate(request).await.ok())
    })
    .await?
    .into_inner();
    let after = server.greedy("Hi").max_tokens(20).text();
    timeout(DEADLINE, after).await??;
    let read = async {
        loop {
            if let Err(status) = slow.message().await {
                return status;
            }
        }
    };
    let status = timeout(DEADLINE, read).await?;
    exceeded(Err(Error::from_answer(&server.client, status)));
    Ok(())
}
