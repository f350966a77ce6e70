//! How long a load may take, and who may wait for it.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::v1::{
    ErrorReason, LoadOutcome,
    ModelState::{Failed, Loading, Pending, Ready, Starting, Warming},
};
use hangar_tests::{
    background::Background,
    processes,
    refusals::refusal,
    scripted::Script,
    server::{DEADLINE, TestServer, spec},
    time_enough::with_time_enough,
};
use tonic::Code;

const SHORT: Duration = Duration::from_millis(1500);

#[hangar_tests::test]
async fn a_load_fails_at_its_timeout() -> Result<()> {
    for state in [Starting, Loading, Warming] {
        let (server, mut held) = with_time_enough(SHORT, async |limit| {
            let server = TestServer::scripted()
                .script(&Script::gated())
                .start()
                .await?;
            let held = server
                .hold_load(server.load_m().timeout(limit), state)
                .await;
            Ok(held.ok().map(|held| (server, held)))
        })
        .await?;
        let failed = held.transitions.until(Failed).await?;
        assert_eq!(failed.reason, "LOAD_TIMEOUT");
        assert!(
            failed
                .message
                .contains(state.as_str_name().trim_start_matches("MODEL_STATE_"))
        );
        processes::ended(held.pid, DEADLINE).await?;
        let load = server
            .info()
            .await?
            .recent_loads
            .into_iter()
            .next()
            .context("a load")?;
        assert_eq!(load.outcome(), LoadOutcome::Failed);
        assert_eq!((load.reason.as_str(), load.attempts), ("LOAD_TIMEOUT", 1));
    }
    Ok(())
}

#[hangar_tests::test]
async fn the_timeout_of_a_load_counts_while_it_is_queued() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .argument("--max-concurrent-loads=1")
        .start()
        .await?;
    let _held = server.hold(Loading).await?;
    let path = server.fixtures.scripted("n", &Script::default())?;
    let waits = server.client.load("n").spec(spec(&path)).timeout(SHORT);
    let late = refusal(
        waits.wait().await,
        Code::DeadlineExceeded,
        ErrorReason::LoadTimeout,
    );
    assert!(late.message().contains("PENDING"), "{late}");
    Ok(())
}

#[hangar_tests::test]
async fn every_waiter_gets_the_timeout_of_a_load() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .start()
        .await?;
    let _gate = server.gate("load")?;
    let load = server.load_m().timeout(SHORT).wait().await;
    refusal(load, Code::DeadlineExceeded, ErrorReason::LoadTimeout);
    Ok(())
}

#[hangar_tests::test]
async fn a_load_outlives_the_deadline_of_its_caller() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .start()
        .await?;
    let mut held = server.hold(Loading).await?;
    let error = server.load_m().deadline(SHORT).wait().await.err();
    assert_eq!(
        error.map(|error| error.code()),
        Some(Code::DeadlineExceeded)
    );
    held.gate.open()?;
    assert_eq!(held.transitions.until(Ready).await?.worker_pid, held.pid);
    Ok(())
}

#[hangar_tests::test]
async fn a_load_outlives_a_caller_that_goes_away() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .start()
        .await?;
    let gate = server.gate("load")?;
    let mut transitions = server.follow("m").await?;
    let client = server.connect().await?;
    let waiting = Background::start(client.load("m").spec(server.spec()).wait());
    let loading = transitions.until(Loading).await?;
    // Takes the call and its connection along.
    drop((waiting, client));
    gate.open()?;
    let ready = transitions.until(Ready).await?;
    assert_eq!(ready.load_id, loading.load_id);
    Ok(())
}

#[hangar_tests::test]
async fn loads_beyond_the_limit_wait_in_the_queue() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .argument("--max-concurrent-loads=1")
        .start()
        .await?;
    let held = server.hold(Loading).await?;
    let path = server.fixtures.scripted("n", &Script::default())?;
    let mut other = server.follow("n").await?;
    server.client.load("n").spec(spec(&path)).send().await?;
    assert_eq!(other.until(Pending).await?.worker_pid, 0);
    assert_eq!(processes::children(server.pid())?, [held.pid]);
    held.gate.open()?;
    other.until(Ready).await?;
    Ok(())
}
