//! An unload ends a load that is under way, wherever it is.

use anyhow::{Context, Result};
use hangar_client::v1::{
    ErrorReason, LoadOutcome,
    ModelState::{self, Loading, Pending, Starting, Unloaded, Warming},
};
use hangar_tests::{
    background::Background,
    processes,
    refusals::refusal,
    scripted::Script,
    server::{TestServer, spec},
};
use tonic::Code;

async fn an_unload_cancels_a_load_in(state: ModelState) -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .start()
        .await?;
    let mut held = server.hold(state).await?;
    assert!(processes::is_running(held.pid));
    let unload = server.client.unload("m").send().await?;
    assert!(unload.was_loaded);
    assert!(!processes::exists(held.pid));
    refusal(
        held.load.end().await?,
        Code::Aborted,
        ErrorReason::LoadCancelled,
    );
    let load_id = held
        .transitions
        .current()
        .map(|status| status.load_id.clone());
    let status = held.transitions.until(Unloaded).await?;
    assert_eq!((status.reason.as_str(), status.worker_pid), ("", 0));
    let record = server.info().await?.recent_loads.into_iter().next();
    let record = record.context("a load")?;
    assert_eq!(
        (record.outcome(), Some(record.load_id)),
        (LoadOutcome::Cancelled, load_id)
    );
    Ok(())
}

#[hangar_tests::test]
async fn an_unload_cancels_a_load_that_is_starting() -> Result<()> {
    an_unload_cancels_a_load_in(Starting).await
}

#[hangar_tests::test]
async fn an_unload_cancels_a_load_that_is_loading() -> Result<()> {
    an_unload_cancels_a_load_in(Loading).await
}

#[hangar_tests::test]
async fn an_unload_cancels_a_load_that_is_warming() -> Result<()> {
    an_unload_cancels_a_load_in(Warming).await
}

#[hangar_tests::test]
async fn an_unload_cancels_a_load_that_waits_for_its_turn() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .argument("--max-concurrent-loads=1")
        .start()
        .await?;
    let held = server.hold(Loading).await?;
    let path = server.fixtures.scripted("n", &Script::default())?;
    let mut transitions = server.follow("n").await?;
    let waiting = Background::start(server.client.load("n").spec(spec(&path)).wait());
    transitions.until(Pending).await?;
    let unload = server.client.unload("n").send().await?;
    assert!(!unload.was_loaded);
    refusal(
        waiting.end().await?,
        Code::Aborted,
        ErrorReason::LoadCancelled,
    );
    transitions.until(Unloaded).await?;
    // The turn that it waited for is not lost.
    held.gate.open()?;
    server.client.load("n").wait().await?;
    Ok(())
}
