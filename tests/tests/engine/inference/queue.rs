//! Requests that wait.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::{FutureExt, try_join_all};
use hangar_client::v1::ErrorReason;
use hangar_tests::{
    refusals::refusal,
    server::{DEADLINE, TestServer},
};
use tokio::{sync::Mutex, time::timeout};
use tonic::Code;

/// Tokens of an answer that takes seconds.
const LONG: u32 = 16_000;

async fn narrow(max_queue: u32) -> Result<TestServer> {
    TestServer::long(|spec| {
        spec.max_concurrency = 1;
        spec.max_queue = Some(max_queue);
    })
    .await
}

#[hangar_tests::test]
async fn one_more_than_may_wait_is_refused_with_a_time_to_come_back() -> Result<()> {
    let server = narrow(1).await?;
    let running = server.greedy("Hello").max_tokens(LONG).stream().await?;
    let waits = async {
        let answer = server.greedy("Hi").max_tokens(5).text().await?;
        let queued = answer.done.timings.and_then(|timings| timings.queued);
        let queued = Duration::try_from(queued.context("a time in the queue")?)?;
        assert!(queued > Duration::ZERO);
        anyhow::Ok(())
    };
    let others = async {
        server.until_occupancy(1, 1).await?;
        let third = server.greedy("Hi").text().await;
        let refusal = refusal(third, Code::ResourceExhausted, ErrorReason::QueueFull);
        assert!(
            refusal
                .details()
                .retry_after
                .is_some_and(|after| after > Duration::ZERO)
        );
        assert_eq!(refusal.details().metadata["limit"], "1");
        drop(running);
        anyhow::Ok(())
    };
    timeout(DEADLINE, async { tokio::try_join!(waits, others) }).await??;
    Ok(())
}

#[hangar_tests::test]
async fn with_a_queue_of_none_nobody_waits() -> Result<()> {
    let server = narrow(0).await?;
    let running = server.greedy("Hello").max_tokens(LONG).stream().await?;
    let second = server.greedy("Hi").text().await;
    let refusal = refusal(second, Code::ResourceExhausted, ErrorReason::QueueFull);
    assert!(refusal.details().retry_after.is_some());
    drop(running);
    server.until_occupancy(0, 0).await?;
    server.greedy("Hi").max_tokens(1).text().await?;
    Ok(())
}

#[hangar_tests::test]
async fn who_comes_first_is_served_first() -> Result<()> {
    let server = narrow(10).await?;
    let running = server.greedy("Hello").max_tokens(LONG).stream().await?;
    let order = Mutex::new(Vec::new());
    let ask = async |number: u32| {
        server.greedy("Hi").max_tokens(300).text().await?;
        order.lock().await.push(number);
        anyhow::Ok(())
    };
    let mut asked = Vec::new();
    let mut running = Some(running);
    for number in 1..=5 {
        let mut one = Box::pin(ask(number));
        let arrived = server.until_occupancy(1, number);
        tokio::select! {
            ended = &mut one => anyhow::bail!("{number} did not wait: {ended:?}"),
            arrived = arrived => arrived?,
        }
        asked.push(one);
    }
    running.take();
    timeout(DEADLINE, try_join_all(asked)).await??;
    assert_eq!(*order.lock().await, [1, 2, 3, 4, 5]);
    Ok(())
}

#[hangar_tests::test]
async fn a_waiting_caller_that_goes_away_gives_its_place_back() -> Result<()> {
    let server = narrow(1).await?;
    let running = server.greedy("Hello").max_tokens(LONG).stream().await?;
    for _ in 0..3 {
        let mut waits = Box::pin(server.greedy("Hi").text().fuse());
        tokio::select! {
            answer = &mut waits => anyhow::bail!("it did not wait: {answer:?}"),
            occupancy = server.until_occupancy(1, 1) => occupancy?,
        }
        drop(waits);
        server.until_occupancy(1, 0).await?;
    }
    drop(running);
    let metrics = async {
        server.until_occupancy(0, 0).await?;
        server.info().await?.metrics.context("metrics")
    };
    let metrics = metrics.await?;
    assert_eq!((metrics.requests_total, metrics.requests_cancelled), (4, 4));
    Ok(())
}
