//! Callers that go away, and callers that do not read.

use std::{pin::pin, time::Duration};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use hangar_client::{
    GenerateEvent, GenerateStream,
    v1::{
        GenerateResponse, generate_response::Event,
        inference_service_client::InferenceServiceClient,
    },
};
use hangar_tests::{
    fixtures::Fixtures,
    processes,
    server::{DEADLINE, TestServer},
};
use tokio::time::timeout;
use tonic::{Streaming, transport::Endpoint};

use super::greedy_request;

/// Tokens of an answer that takes far longer than [`SHORT`].
const LONG: u32 = 16_000;

/// Tokens of an answer whose work can be measured.
const SHORT: u32 = 500;

/// The stream once its answer has begun.
async fn begun(mut stream: GenerateStream) -> Result<GenerateStream> {
    match stream.next().await.context("the answer ended")?? {
        GenerateEvent::Chunk(_) => Ok(stream),
        GenerateEvent::Done(done) => anyhow::bail!("the answer is over: {done:?}"),
    }
}

/// A caller that takes no more than a kilobyte before it reads.
async fn slow_reader(server: &TestServer, tokens: u32) -> Result<Streaming<GenerateResponse>> {
    let endpoint = Endpoint::from_shared(server.url())?.initial_stream_window_size(1024);
    let mut stub = InferenceServiceClient::new(endpoint.connect().await?);
    Ok(stub
        .generate(greedy_request("Hello", tokens))
        .await?
        .into_inner())
}

#[hangar_tests::test]
async fn a_caller_that_goes_away_frees_its_place_at_once() -> Result<()> {
    let server = TestServer::long(|spec| spec.max_concurrency = 1).await?;
    let worker = server.worker().await?;
    let before = server.greedy("Hi").max_tokens(20).text().await?.text;
    let idle = processes::cpu_time(worker)?;
    server.greedy("Hello").max_tokens(SHORT).text().await?;
    let short = processes::cpu_time(worker)?.saturating_sub(idle);
    let stream = begun(server.greedy("Hello").max_tokens(LONG).stream().await?).await?;
    server.until_occupancy(1, 0).await?;
    drop(stream);
    server.until_occupancy(0, 0).await?;
    let freed = processes::cpu_time(worker)?;
    let after = server.greedy("Hi").max_tokens(20).text();
    assert_eq!(timeout(DEADLINE, after).await??.text, before);
    // The engine does not go on with what nobody waits for.
    processes::at_rest(worker, DEADLINE).await?;
    let wasted = processes::cpu_time(worker)?.saturating_sub(freed);
    assert!(wasted < short * (LONG / SHORT) / 2, "{wasted:?}, {short:?}");
    let metrics = server.info().await?.metrics.context("metrics")?;
    assert_eq!((metrics.requests_total, metrics.requests_succeeded), (4, 3));
    assert_eq!(
        (metrics.requests_cancelled, metrics.requests_failed),
        (1, 0)
    );
    assert_eq!(server.worker().await?, worker);
    Ok(())
}

#[hangar_tests::test]
async fn a_hundred_callers_that_vanish_leave_nothing_behind() -> Result<()> {
    let server = TestServer::long(|spec| spec.max_queue = Some(100)).await?;
    let worker = server.worker().await?;
    let before = server.greedy("Hi").max_tokens(50).text().await?.text;
    let callers = (0..100).map(async |number: u32| {
        let client = server.connect().await?;
        let request = client.generate("m").prompt("Hello").max_tokens(LONG);
        let mut stream = pin!(request.stream());
        if number.is_multiple_of(2) {
            drop(stream.await?);
        } else {
            // Gone while the request is on its way or waits.
            let _ = timeout(Duration::from_millis(u64::from(number) / 10), &mut stream).await;
        }
        anyhow::Ok(())
    });
    try_join_all(callers).await?;
    server.until_occupancy(0, 0).await?;
    assert_eq!(
        server.greedy("Hi").max_tokens(50).text().await?.text,
        before
    );
    assert_eq!(server.worker().await?, worker);
    let metrics = server.info().await?.metrics.context("metrics")?;
    assert_eq!(
        (metrics.requests_succeeded, metrics.requests_failed),
        (2, 0)
    );
    assert_eq!(metrics.requests_total, 2 + metrics.requests_cancelled);
    assert!(metrics.requests_cancelled >= 50, "{metrics:?}");
    Ok(())
}

#[hangar_tests::test]
async fn a_caller_that_does_not_read_slows_nobody_and_loses_nothing() -> Result<()> {
    let server = TestServer::long(|spec| {
        spec.max_concurrency = 1;
        spec.max_queue = Some(1);
    })
    .await?;
    let whole = server.greedy("Hello").max_tokens(800).text().await?.text;
    let mut slow = slow_reader(&server, 800).await?;
    for _ in 0..2 {
        let other = server.connect().await?;
        let answer = other
            .generate("m")
            .prompt("Hello")
            .temperature(0.0)
            .max_tokens(800);
        assert_eq!(timeout(DEADLINE, answer.text()).await??.text, whole);
    }
    let (mut text, mut done) = (String::new(), 0);
    while let Some(response) = slow.message().await? {
        match response.event.context("an event")? {
            Event::Chunk(chunk) => text.push_str(&chunk.text),
            Event::Done(_) => done += 1,
        }
    }
    assert_eq!((text, done), (whole, 1));
    Ok(())
}

#[hangar_tests::test]
async fn a_caller_that_does_not_read_is_no_hang_of_the_engine() -> Result<()> {
    let hang = Duration::from_secs(3);
    let fixtures = Fixtures::new()?;
    let path = fixtures.long_llama()?;
    let options = TestServer::real()
        .fixtures(&fixtures)
        .time("--hang-timeout", hang);
    let server = options.serving(&path, |_| ()).await?;
    let mut transitions = server.follow("m").await?;
    let slow = slow_reader(&server, 800).await?;
    let transition = timeout(hang * 2, transitions.next()).await;
    assert!(transition.is_err(), "{transition:?}");
    drop(slow);
    Ok(())
}
