//! How quickly a model works is learned, and held against what cannot be done.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    Generate,
    v1::{
        ErrorReason, MemoryHint, ModelInfo,
        ModelState::{Backoff, Ready},
        Pace,
        RestartMode::OnFailure,
    },
};
use hangar_tests::{
    background::Background,
    fixtures::Fixtures,
    processes,
    refusals::refusal,
    server::{DEADLINE, TestServer, restarting},
    throttle::Throttle,
};
use rustix::process::Signal;
use tokio::time::timeout;
use tonic::Code;

/// A prompt of so many tokens, one for each byte.
fn prompt(server: &TestServer, tokens: usize) -> Generate {
    server.greedy(&"x".repeat(tokens))
}

fn pace(info: &ModelInfo) -> Option<Pace> {
    info.learned.as_ref()?.pace
}

/// Waits for a pace; the worker reports it from time to time.
async fn learned(server: &TestServer) -> Result<Pace> {
    let check = async {
        loop {
            if let Some(pace) = pace(&server.info().await?)
                && pace.prompt_tokens_per_second.is_some()
                && pace.generated_tokens_per_second.is_some()
            {
                return anyhow::Ok(pace);
            }
        }
    };
    timeout(DEADLINE, check).await?
}

#[hangar_tests::test]
async fn an_engine_that_reads_a_prompt_for_longer_than_the_limit_does_not_hang() -> Result<()> {
    let limit = Duration::from_secs(2);
    let fixtures = Fixtures::new()?;
    let path = fixtures.long_llama()?;
    let server = TestServer::real()
        .fixtures(&fixtures)
        .time("--hang-timeout", limit)
        .serving(&path, |spec| {
            // For the scores of so many tokens.
            spec.memory_hint = Some(MemoryHint {
                host_bytes: 3 << 30,
                device_bytes: 0,
            });
        })
        .await?;
    let worker = server.worker().await?;
    let throttle = Throttle::start(worker, 20)?;
    let used = processes::cpu_time(worker)?;
    let running = Background::start(prompt(&server, 12_000).max_tokens(1).text());
    processes::eventually("the prompt is read for long", DEADLINE, || {
        let now = processes::cpu_time(worker).ok()?;
        (now >= used + limit / 8).then_some(())
    })
    .await?;
    drop(throttle);
    running.end().await??;
    assert_eq!(server.worker().await?, worker);
    Ok(())
}

#[hangar_tests::test]
async fn a_pace_is_learned_reported_and_kept_over_reloads() -> Result<()> {
    let server = TestServer::long(|_| ()).await?;
    assert_eq!(pace(&server.info().await?), None);
    prompt(&server, 500).max_tokens(20).text().await?;
    let before = learned(&server).await?;
    assert!(before.prompt_tokens_per_second > Some(1.0), "{before:?}");
    assert!(before.generated_tokens_per_second > Some(1.0), "{before:?}");
    server.client.load("m").force_reload().wait().await?;
    assert_eq!(pace(&server.info().await?), Some(before));
    Ok(())
}

#[hangar_tests::test]
async fn a_prompt_that_cannot_meet_its_deadline_is_refused_at_once() -> Result<()> {
    let server = TestServer::long(|_| ()).await?;
    let throttle = Throttle::start(server.worker().await?, 10)?;
    // What has no deadline is never too slow, nor is anything before enough is known.
    for _ in 0..3 {
        prompt(&server, 2000).max_tokens(2).text().await?;
    }
    let rate = learned(&server).await?.prompt_tokens_per_second;
    let rate = rate.context("a rate")?;
    drop(throttle);
    let expected = 8000.0 / rate;
    eprintln!("{rate:.0} tokens/s, 8,000 tokens in {expected:.3} s");
    let request = prompt(&server, 8000).timeout(Duration::from_secs_f64(expected / 8.0));
    let refused = refusal(
        request.text().await,
        Code::DeadlineExceeded,
        ErrorReason::DeadlineTooShort,
    );
    let reported = &refused.details().metadata;
    assert_eq!(reported["prompt_tokens"], "8000");
    let number = |name: &str| reported[name].parse::<f64>();
    assert!(number("prompt_tokens_per_second")? > 0.0, "{reported:?}");
    assert!(
        number("estimated_seconds")? > number("seconds_left")?,
        "{reported:?}"
    );
    // The engine did nothing for it, and whoever has the time gets the answer.
    prompt(&server, 3000).max_tokens(2).text().await?;
    Ok(())
}

/// Has the worker read a large prompt and end meanwhile, as the system ends one when memory is short.
async fn kill_at(server: &TestServer, large: Generate) -> Result<()> {
    let worker = server.worker().await?;
    let throttle = Throttle::start(worker, 100)?;
    let used = processes::cpu_time(worker)?;
    let running = Background::start(large.text());
    processes::eventually("the prompt is read", DEADLINE, || {
        let now = processes::cpu_time(worker).ok()?;
        (now >= used + Duration::from_millis(50)).then_some(())
    })
    .await?;
    processes::signal(worker, Signal::KILL)?;
    drop(throttle);
    let died = running.end().await?;
    refusal(died, Code::Unavailable, ErrorReason::WorkerDied);
    Ok(())
}

#[hangar_tests::test]
async fn a_prompt_that_ended_two_workers_is_not_sent_to_the_next() -> Result<()> {
    let server = TestServer::long(|_| ()).await?;
    let path = server.fixtures.long_llama()?;
    let spec = restarting(&path, OnFailure, 5);
    let load = server.client.load("m").spec(spec).force_reload();
    load.wait().await?;
    let mut transitions = server.follow("m").await?;
    let large = || prompt(&server, 8000).max_tokens(2);
    prompt(&server, 1000).max_tokens(2).text().await?;
    for deaths in 1..=2 {
        kill_at(&server, large()).await?;
        transitions.until(Backoff).await?;
        transitions.until(Ready).await?;
        let known = server.info().await?.fatal_prompt;
        let known = known.map(|fatal| (fatal.tokens, fatal.deaths));
        assert_eq!(known, Some((8000, deaths)));
    }
    let refused = refusal(
        large().text().await,
        Code::FailedPrecondition,
        ErrorReason::PromptTooLarge,
    );
    let reported = &refused.details().metadata;
    assert_eq!(reported["fatal_prompt_tokens"], "8000");
    assert_eq!(reported["fatal_reason"], "WORKER_DIED");
    assert!(refused.details().retry_after.is_none());
    prompt(&server, 4000).max_tokens(2).text().await?;
    assert_eq!(server.worker().await?, {
        let status = server.info().await?.status.context("a status")?;
        assert_eq!(status.restarts, 2);
        status.worker_pid
    });
    server.client.load("m").force_reload().wait().await?;
    large().text().await?;
    Ok(())
}
