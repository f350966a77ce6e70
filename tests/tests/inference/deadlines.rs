//! Answers that do not end in time.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    Completion, Error,
    v1::{ErrorReason, generate_response::Event, inference_service_client::InferenceServiceClient},
};
use hangar_tests::{hangar::DEADLINE, refusals::refusal};
use tokio::time::timeout;
use tonic::{Code, Request, transport::Endpoint};

use crate::{Served, greedy_request};

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

#[tokio::test]
async fn a_requests_timeout_ends_its_answer_in_mid_stream() -> Result<()> {
    let served = Served::long(|spec| spec.max_concurrency = 1).await?;
    let mut stream = served
        .greedy("Hello")
        .max_tokens(LONG)
        .timeout(SOON)
        .stream()
        .await?;
    let mut chunks = 0;
    let error = loop {
        match stream.next().await.context("the answer ended")? {
            Ok(_) => chunks += 1,
            Err(error) => break error,
        }
    };
    assert!(chunks > 1);
    exceeded(Err(error));
    let after = served.greedy("Hi").max_tokens(20).text();
    timeout(Duration::from_secs(5), after).await??;
    let metrics = served.model().await?.metrics.context("metrics")?;
    assert_eq!(
        (metrics.requests_failed, metrics.requests_cancelled),
        (1, 0)
    );
    Ok(())
}

#[tokio::test]
async fn the_calls_own_deadline_ends_its_answer_in_mid_stream() -> Result<()> {
    let served = Served::long(|spec| spec.max_concurrency = 1).await?;
    let mut request = Request::new(greedy_request("Hello", LONG));
    request.set_timeout(SOON);
    let mut stream = served
        .client
        .inference_service()
        .generate(request)
        .await?
        .into_inner();
    let mut chunks = 0;
    let status = loop {
        match stream.message().await {
            Ok(response) => {
                let event = response.context("the answer ended")?.event;
                anyhow::ensure!(matches!(event, Some(Event::Chunk(_))), "{event:?}");
                chunks += 1;
            }
            Err(status) => break status,
        }
    };
    assert!(chunks > 1);
    exceeded(Err(Error::from_answer(&served.client, status)));
    served.until_crowd(0, 0).await?;
    Ok(())
}

#[tokio::test]
async fn a_deadline_passes_in_the_queue_too() -> Result<()> {
    let served = Served::long(|spec| spec.max_concurrency = 1).await?;
    let running = served.greedy("Hello").max_tokens(LONG).stream().await?;
    exceeded(served.greedy("Hi").timeout(SOON).text().await);
    let mut request = Request::new(greedy_request("Hi", 1));
    request.set_timeout(SOON);
    let answer = served.client.inference_service().generate(request).await;
    let error = answer.map_err(|status| Error::from_answer(&served.client, status));
    // Whether the server or the client's own timer was first is left open.
    assert_eq!(
        error.err().map(|error| error.code()),
        Some(Code::DeadlineExceeded)
    );
    served.until_crowd(1, 0).await?;
    drop(running);
    served.greedy("Hi").max_tokens(1).text().await?;
    Ok(())
}

#[tokio::test]
async fn a_deadline_holds_for_a_caller_that_does_not_read() -> Result<()> {
    let served = Served::long(|spec| spec.max_concurrency = 1).await?;
    let endpoint = Endpoint::from_shared(served.hangar.url())?.initial_stream_window_size(1024);
    let mut stub = InferenceServiceClient::new(endpoint.connect().await?);
    let mut request = greedy_request("Hello", LONG);
    request.timeout = Some(prost_types::Duration {
        seconds: 0,
        nanos: 300_000_000,
    });
    let mut slow = stub.generate(request).await?.into_inner();
    let after = served.greedy("Hi").max_tokens(20).text();
    timeout(Duration::from_secs(5), after).await??;
    let read = async {
        loop {
            if let Err(status) = slow.message().await {
                return status;
            }
        }
    };
    let status = timeout(DEADLINE, read).await?;
    exceeded(Err(Error::from_answer(&served.client, status)));
    Ok(())
}
