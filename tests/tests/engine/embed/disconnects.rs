//! Callers that go away.

use std::{pin::pin, time::Duration};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use hangar_client::v1::ModelSpec;
use hangar_tests::{
    background::Background,
    fixtures::{Embedding, Fixtures},
    processes,
    server::{DEADLINE, NEVER, TestServer},
};
use rustix::process::Signal;
use tokio::time::timeout;

use super::{Vectors, many};

/// Callers that are there at the same time.
const AT_ONCE: usize = 50;

#[hangar_tests::test]
async fn a_caller_that_goes_away_frees_the_engine_after_the_text_at_hand() -> Result<()> {
    let server = TestServer::embedding(Embedding::Gemma).await?;
    let worker = server.worker().await?;
    let before = server.vector("Hello").await?;
    let client = server.connect().await?;
    {
        let mut long = pin!(client.embed("m").inputs(many()).send());
        tokio::select! {
            ended = &mut long => anyhow::bail!("it ended: {ended:?}"),
            runs = server.until_occupancy(1, 0) => runs?,
        }
    }
    server.until_occupancy(0, 0).await?;
    let after = server.vector("Hello");
    assert_eq!(timeout(DEADLINE, after).await??, before);
    assert_eq!(server.worker().await?, worker);
    let metrics = server.info().await?.metrics.context("metrics")?;
    assert_eq!((metrics.requests_total, metrics.requests_succeeded), (3, 2));
    assert_eq!(
        (metrics.requests_cancelled, metrics.requests_failed),
        (1, 0)
    );
    Ok(())
}

/// A server that takes no time to be too long for a request.
async fn start(kind: Embedding) -> Result<TestServer> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.embedding(kind)?;
    let options = TestServer::real()
        .fixtures(&fixtures)
        .time("--hang-timeout", NEVER);
    let change = |spec: &mut ModelSpec| {
        spec.max_concurrency = 1;
        spec.max_queue = Some(1000);
    };
    options.serving(&path, change).await
}

/// One caller goes away while its request runs, and the others while theirs wait for it: the worker is stopped
/// meanwhile.
async fn vanish_while_they_run_or_wait(server: &TestServer, worker: u32) -> Result<()> {
    let others = u32::try_from(AT_ONCE)?;
    let ask = async |texts: Vec<String>| {
        let client = server.connect().await?;
        let call = client.embed("m").inputs(texts).send();
        // The connection goes with the call.
        anyhow::Ok(Background::start(async move { (call.await, client) }))
    };
    let before = server.info().await?.metrics.context("metrics")?;
    processes::stop(worker, DEADLINE).await?;
    let runs = ask(many()).await?;
    server.until_occupancy(1, 0).await?;
    let mut wait = Vec::new();
    for _ in 0..others {
        wait.push(ask(vec!["x".to_owned()]).await?);
    }
    server.until_occupancy(1, others).await?;
    drop(wait);
    server.until_occupancy(1, 0).await?;
    drop(runs);
    server.until_occupancy(0, 0).await?;
    let after = server.info().await?.metrics.context("metrics")?;
    let cancelled = after.requests_cancelled - before.requests_cancelled;
    assert_eq!(cancelled, 1 + u64::from(others));
    processes::signal(worker, Signal::CONT)
}

#[hangar_tests::test]
async fn a_thousand_callers_that_vanish_leave_nothing_behind() -> Result<()> {
    for kind in Embedding::ALL {
        let server = start(kind).await?;
        let worker = server.worker().await?;
        let before = server.vector("Hello").await?;
        vanish_while_they_run_or_wait(&server, worker).await?;
        let texts: Vec<_> = many().into_iter().take(8).collect();
        stream::iter(0..500_u64)
            .map(async |number| {
                let client = server.connect().await?;
                let mut call = pin!(client.embed("m").inputs(texts.clone()).send());
                // Gone while the request is on its way, waits or runs, or answered: as it comes.
                let limit = Duration::from_micros(number % 50 * 200);
                let _ = timeout(limit, &mut call).await;
                anyhow::Ok(())
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        server.until_occupancy(0, 0).await?;
        assert_eq!(server.vector("Hello").await?, before);
        assert_eq!(server.worker().await?, worker);
        let metrics = server.info().await?.metrics.context("metrics")?;
        assert_eq!(metrics.requests_failed, 0);
        let ended = metrics.requests_succeeded + metrics.requests_cancelled;
        assert_eq!(metrics.requests_total, ended);
        let certain = 1 + AT_ONCE as u64;
        assert!(metrics.requests_cancelled >= certain, "{metrics:?}");
    }
    Ok(())
}
