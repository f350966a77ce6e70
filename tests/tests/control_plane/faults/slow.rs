//! Engines that are slow and not dead, and those that work for nothing.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::v1::{
    ErrorReason,
    ModelState::{Backoff, Ready},
};
use hangar_tests::{
    background::Background,
    refusals::refusal,
    scripted::{GenerateScript, Script, WorkKind},
    server::{TestServer, TestServerBuilder, Transitions},
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

async fn assert_it_lives(work: WorkKind, limit: Duration, slow: bool) -> Result<()> {
    let (server, mut transitions) = server(work, |o| o.time("--hang-timeout", limit)).await?;
    let gate = server.gate("token")?;
    let worker = transitions.current().map_or(0, |status| status.worker_pid);
    let request = server.client.generate("m").prompt("x").max_tokens(2);
    let answer = Background::start(request.text());
    let throttle = slow.then(|| Throttle::start(worker, 100)).transpose()?;
    let transition = timeout(limit * 5 / 2, transitions.next()).await;
    assert!(transition.is_err(), "{transition:?}");
    drop(throttle);
    gate.open()?;
    assert_eq!(answer.end().await??.text, "t0 t1 ");
    let status = server.info().await?.status.context("a status")?;
    assert_eq!((status.worker_pid, status.restarts), (worker, 0));
    Ok(())
}

#[hangar_tests::test]
async fn an_engine_that_works_at_a_step_for_long_does_not_hang() -> Result<()> {
    assert_it_lives(WorkKind::Thread, Duration::from_millis(1500), false).await
}

#[hangar_tests::test]
async fn an_engine_that_gets_a_hundredth_of_a_processor_does_not_hang() -> Result<()> {
    assert_it_lives(WorkKind::Thread, Duration::from_secs(6), true).await
}

#[hangar_tests::test]
async fn processor_time_of_the_workers_children_is_work() -> Result<()> {
    assert_it_lives(WorkKind::Child, Duration::from_millis(1500), false).await
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
