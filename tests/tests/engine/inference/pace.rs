//! How quickly a model works is learned, and held against what cannot be done.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    Generate,
    v1::{
        ErrorReason, ModelInfo,
        ModelState::{Backoff, Ready},
        Pace,
        RestartMode::OnFailure,
    },
};
use hangar_tests::{
    background::Background,
    hangar::{DEADLINE, restarting},
    processes,
    refusals::refusal,
    throttle::Throttle,
};
use rustix::process::Signal;
use tokio::time::timeout;
use tonic::Code;

use super::Served;

/// A prompt of so many tokens, one for each byte.
fn prompt(served: &Served, tokens: usize) -> Generate {
    served.greedy(&"x".repeat(tokens))
}

fn pace(info: &ModelInfo) -> Option<Pace> {
    info.learned.as_ref()?.pace
}

/// Waits for a pace; the worker tells it from time to time.
async fn learned(served: &Served) -> Result<Pace> {
    let look = async {
        loop {
            if let Some(pace) = pace(&served.model().await?)
                && pace.prompt_tokens_per_second.is_some()
                && pace.generated_tokens_per_second.is_some()
            {
                return anyhow::Ok(pace);
            }
        }
    };
    timeout(DEADLINE, look).await?
}

#[tokio::test]
async fn a_pace_is_learned_reported_and_kept_over_reloads() -> Result<()> {
    let served = Served::long(|_| ()).await?;
    assert_eq!(pace(&served.model().await?), None);
    prompt(&served, 500).max_tokens(20).text().await?;
    let before = learned(&served).await?;
    assert!(before.prompt_tokens_per_second > Some(1.0), "{before:?}");
    assert!(before.generated_tokens_per_second > Some(1.0), "{before:?}");
    served.client.load("m").force_reload().wait().await?;
    assert_eq!(pace(&served.model().await?), Some(before));
    Ok(())
}

#[tokio::test]
async fn a_prompt_that_cannot_meet_its_deadline_is_refused_at_once() -> Result<()> {
    let served = Served::long(|_| ()).await?;
    let throttle = Throttle::start(served.worker().await?, 10)?;
    // What has no deadline is never too slow, nor is anything before enough is known.
    for _ in 0..3 {
        prompt(&served, 2000).max_tokens(2).text().await?;
    }
    let rate = learned(&served).await?.prompt_tokens_per_second;
    let rate = rate.context("a rate")?;
    drop(throttle);
    let expected = 8000.0 / rate;
    eprintln!("{rate:.0} tokens/s, 8,000 tokens in {expected:.3} s");
    let request = prompt(&served, 8000).timeout(Duration::from_secs_f64(expected / 8.0));
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
    prompt(&served, 3000).max_tokens(2).text().await?;
    Ok(())
}

#[tokio::test]
async fn a_prompt_that_ended_a_worker_is_not_sent_to_the_next() -> Result<()> {
    let served = Served::long(|_| ()).await?;
    let path = served.fixtures.long_llama()?;
    let spec = restarting(&path, OnFailure, 5);
    let load = served.client.load("m").spec(spec).force_reload();
    load.wait().await?;
    let mut transitions = served.hangar.follow("m").await?;
    let large = || prompt(&served, 8000).max_tokens(2);
    prompt(&served, 1000).max_tokens(2).text().await?;
    let worker = served.worker().await?;
    let throttle = Throttle::start(worker, 100)?;
    let used = processes::cpu_time(worker)?;
    let running = Background::start(large().text());
    processes::eventually("the prompt is read", DEADLINE, || {
        let now = processes::cpu_time(worker).ok()?;
        (now >= used + Duration::from_millis(50)).then_some(())
    })
    .await?;
    // As the system does when memory is short.
    processes::signal(worker, Signal::KILL)?;
    drop(throttle);
    let died = running.end().await?;
    refusal(died, Code::Unavailable, ErrorReason::WorkerDied);
    transitions.until(Backoff).await?;
    transitions.until(Ready).await?;
    let refused = refusal(
        large().text().await,
        Code::FailedPrecondition,
        ErrorReason::PromptTooLarge,
    );
    let reported = &refused.details().metadata;
    assert_eq!(reported["fatal_prompt_tokens"], "8000");
    assert_eq!(reported["fatal_reason"], "WORKER_DIED");
    assert!(refused.details().retry_after.is_none());
    prompt(&served, 4000).max_tokens(2).text().await?;
    assert_eq!(served.worker().await?, {
        let status = served.model().await?.status.context("a status")?;
        assert_eq!(status.restarts, 1);
        status.worker_pid
    });
    served.client.load("m").force_reload().wait().await?;
    large().text().await?;
    Ok(())
}
