//! Engines that are slow and not dead, and those that work for nothing.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    Generate,
    v1::{
        ErrorReason, ModelInfo,
        ModelState::{Backoff, Ready},
    },
};
use hangar_tests::{
    background::Background,
    processes,
    quota::CpuQuota,
    refusals::refusal,
    scripted::{GenerateScript, Script, WorkKind},
    server::{DEADLINE, NEVER, TestServer, TestServerBuilder, Transitions},
    throttle::Throttle,
};
use tokio::time::timeout;
use tonic::Code;

/// A READY model whose tokens wait at the gate "token" while somebody works.
async fn server(
    work: WorkKind,
    change: impl FnOnce(TestServerBuilder) -> TestServerBuilder,
) -> Result<(TestServer, Transitions)> {
    let script = Script::generating(GenerateScript {
        gate: Some("token".into()),
        work,
        ..GenerateScript::default()
    });
    let server = TestServer::scripted()
        .script(&script)
        .with(change)
        .start()
        .await?;
    let transitions = server.ready_with_restarts(5).await?;
    Ok((server, transitions))
}

/// What slows a worker down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlowCause {
    Not,
    /// To a hundredth of a processor, by stopping it and letting it go on by turns.
    ByTurns,
    /// To a hundredth of a processor, by its control group.
    ByQuota,
}

async fn assert_it_lives(work: WorkKind, limit: Duration, slowed: SlowCause) -> Result<()> {
    let (server, mut transitions) = server(work, |o| o.time("--hang-timeout", limit)).await?;
    let gate = server.gate("token")?;
    let worker = transitions.current().map_or(0, |status| status.worker_pid);
    let request = server.client.generate("m").prompt("x").max_tokens(2);
    let answer = Background::start(request.text());
    let throttle = match slowed {
        SlowCause::ByTurns => Some(Throttle::start(worker, 100)?),
        _ => None,
    };
    let quota = match slowed {
        SlowCause::ByQuota => match CpuQuota::start(worker, 1)? {
            Some(quota) => Some(quota),
            None => return Ok(()),
        },
        _ => None,
    };
    let transition = timeout(limit * 5 / 2, transitions.next()).await;
    assert!(transition.is_err(), "{transition:?}");
    drop((throttle, quota));
    gate.open()?;
    assert_eq!(answer.end().await??.text, "t0 t1 ");
    let status = server.info().await?.status.context("a status")?;
    assert_eq!((status.worker_pid, status.restarts), (worker, 0));
    Ok(())
}

#[hangar_tests::test]
async fn an_engine_that_works_at_a_step_for_long_does_not_hang() -> Result<()> {
    let limit = Duration::from_millis(1500);
    assert_it_lives(WorkKind::Thread, limit, SlowCause::Not).await
}

#[hangar_tests::test]
async fn an_engine_that_gets_a_hundredth_of_a_processor_does_not_hang() -> Result<()> {
    let limit = Duration::from_secs(6);
    assert_it_lives(WorkKind::Thread, limit, SlowCause::ByTurns).await
}

#[hangar_tests::test]
async fn an_engine_whose_container_gives_it_a_hundredth_of_a_processor_does_not_hang() -> Result<()>
{
    let limit = Duration::from_secs(6);
    assert_it_lives(WorkKind::Thread, limit, SlowCause::ByQuota).await
}

#[hangar_tests::test]
async fn processor_time_of_the_workers_children_is_work() -> Result<()> {
    let limit = Duration::from_millis(1500);
    assert_it_lives(WorkKind::Child, limit, SlowCause::Not).await
}

/// A prompt of so many tokens, one for each byte.
fn long(server: &TestServer, tokens: usize) -> Generate {
    let prompt = "x".repeat(tokens);
    server.client.generate("m").prompt(prompt).max_tokens(1)
}

#[hangar_tests::test]
async fn a_prompt_whose_pace_is_not_known_has_no_more_time_than_any() -> Result<()> {
    let (server, mut transitions) = server(WorkKind::Thread, |options: TestServerBuilder| {
        options
            .time("--hang-timeout", Duration::from_secs(60))
            .time("--spin-timeout", Duration::from_secs(1))
            .time("--spin-timeout-per-prompt-token", NEVER)
            .time("--max-spin-timeout", Duration::from_secs(2))
    })
    .await?;
    let _gate = server.gate("token")?;
    let answer = long(&server, 1000).text().await;
    let hung = refusal(answer, Code::Unavailable, ErrorReason::WorkerHung);
    assert!(hung.message().contains("1000 tokens of prompts"), "{hung}");
    assert_eq!(transitions.next().await?.reason, "WORKER_HUNG");
    Ok(())
}

#[hangar_tests::test]
async fn what_an_earlier_worker_read_quickly_kills_no_slower_one() -> Result<()> {
    let (server, _transitions) = server(WorkKind::Thread, |options: TestServerBuilder| {
        options.time("--spin-timeout", Duration::from_secs(1))
    })
    .await?;
    let mut script = Script::read(&server.directory)?;
    script.pace = Some(1e6);
    script.write(&server.directory)?;
    server.client.load("m").force_reload().wait().await?;
    let known = |info: &ModelInfo| info.learned.as_ref().is_some_and(|it| it.pace.is_some());
    server.info_when(known).await?;
    script.pace = None;
    script.write(&server.directory)?;
    let load = server.client.load("m").force_reload().wait().await?;
    let worker = load.status.context("a status")?.worker_pid;
    assert!(known(&server.info().await?), "what was learned is kept");

    let gate = server.gate("token")?;
    let answer = Background::start(long(&server, 1000).text());
    processes::eventually("the engine works for long", DEADLINE, || {
        let used = processes::cpu_time(worker).ok()?;
        (used > Duration::from_secs(3)).then_some(())
    })
    .await?;
    gate.open()?;
    assert_eq!(answer.end().await??.text, "t0 ");
    let status = server.info().await?.status.context("a status")?;
    assert_eq!((status.worker_pid, status.restarts), (worker, 0));
    Ok(())
}

#[hangar_tests::test]
async fn an_engine_that_spins_without_a_step_has_a_limit_of_its_own() -> Result<()> {
    let (server, mut transitions) = server(WorkKind::Thread, |options: TestServerBuilder| {
        options
            .time("--hang-timeout", Duration::from_secs(60))
            .time("--spin-timeout", Duration::from_secs(1))
    })
    .await?;
    let _gate = server.gate("token")?;
    let answer = server.client.generate("m").prompt("x").text().await;
    let hung = refusal(answer, Code::Unavailable, ErrorReason::WorkerHung);
    assert!(hung.message().contains("--spin-timeout"), "{hung}");
    let backoff = transitions.next().await?;
    assert_eq!(
        (backoff.state(), backoff.reason.as_str()),
        (Backoff, "WORKER_HUNG")
    );
    assert_eq!(transitions.until(Ready).await?.restarts, 1);
    Ok(())
}
