//! Old models that somebody else still needs.

use anyhow::Result;
use hangar_client::v1::{ModelSpec, ModelState, SwitchModelRequest, SwitchOutcome, SwitchStrategy};
use hangar_tests::{
    fleet_watch::FleetWatch,
    scripted::{Gate, LoadKind, Script},
    server::TestServer,
    stubs::{load_for, switch},
};
use rstest::rstest;

use super::{ALIAS, carried_out, point, target};

/// Switches from "old" to "new", which is registered by that.
async fn to_new(
    server: &TestServer,
    watch: &mut FleetWatch,
    strategy: SwitchStrategy,
    script: &Script,
) -> Result<SwitchOutcome> {
    let (_, spec) = server.script("new", script)?;
    let request = SwitchModelRequest {
        spec: Some(spec),
        ..switch(ALIAS, "new", strategy)
    };
    Ok(carried_out(server, watch, request).await?.outcome())
}

/// Makes sure that "old" has not moved since `pid` was started for it.
async fn assert_serves(server: &TestServer, pid: u32) -> Result<()> {
    let status = server.stubs.info("old").await?.status.unwrap_or_default();
    assert_eq!(
        (status.state(), status.worker_pid),
        (ModelState::Ready, pid)
    );
    server.answer("old").await?;
    Ok(())
}

#[rstest]
#[hangar_tests::test]
async fn a_required_model_is_not_unloaded_by_a_switch(
    #[values(SwitchStrategy::LoadFirst, SwitchStrategy::UnloadFirst)] strategy: SwitchStrategy,
) -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let (_, spec) = server.script("old", &Script::default())?;
    let required = ModelSpec {
        required: true,
        ..spec
    };
    let pid = server
        .load("old", required)
        .await?
        .status
        .unwrap_or_default()
        .worker_pid;
    let mut watch = server.watch().await?;
    point(&server, &mut watch, "old").await?;
    let outcome = to_new(&server, &mut watch, strategy, &Script::default()).await?;
    assert_eq!(outcome, SwitchOutcome::Succeeded);
    assert_serves(&server, pid).await?;
    assert!(server.stubs.is_desired("old").await?);
    Ok(())
}

#[rstest]
#[hangar_tests::test]
async fn a_model_with_another_alias_is_not_unloaded_by_a_switch(
    #[values(SwitchStrategy::LoadFirst, SwitchStrategy::UnloadFirst)] strategy: SwitchStrategy,
) -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let (_, spec) = server.script("old", &Script::default())?;
    let pid = server
        .load("old", spec)
        .await?
        .status
        .unwrap_or_default()
        .worker_pid;
    let mut watch = server.watch().await?;
    point(&server, &mut watch, "old").await?;
    let other = switch("other", "old", SwitchStrategy::LoadFirst);
    carried_out(&server, &mut watch, other).await?;
    let outcome = to_new(&server, &mut watch, strategy, &Script::default()).await?;
    assert_eq!(outcome, SwitchOutcome::Succeeded);
    assert_serves(&server, pid).await?;
    assert!(server.stubs.is_desired("old").await?);
    assert_eq!(server.stubs.info("old").await?.aliases, ["other"]);
    Ok(())
}

#[rstest]
#[hangar_tests::test]
async fn a_held_model_stays_loaded_until_it_is_released(
    #[values(SwitchStrategy::LoadFirst, SwitchStrategy::UnloadFirst)] strategy: SwitchStrategy,
) -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let (_, spec) = server.script("old", &Script::default())?;
    let session = server.stubs.create_session(None).await?;
    let answer = server.stubs.load(load_for(&session, "old", spec)).await?;
    let pid = answer.loads[0]
        .status
        .clone()
        .unwrap_or_default()
        .worker_pid;
    let mut watch = server.watch().await?;
    point(&server, &mut watch, "old").await?;
    let outcome = to_new(&server, &mut watch, strategy, &Script::default()).await?;
    assert_eq!(outcome, SwitchOutcome::Succeeded);
    assert_serves(&server, pid).await?;
    assert_eq!(target(&server).await?, "new");
    // The alias wanted it to stay, and has moved on.
    assert!(!server.stubs.is_desired("old").await?);
    assert_eq!(server.stubs.close(&session.session_id).await?, ["old"]);
    watch.until("old", ModelState::Unloaded).await?;
    Ok(())
}

/// Nobody but requests asked for it, and they go on doing so.
#[hangar_tests::test]
async fn a_model_that_was_loaded_on_demand_outlives_a_switch_that_fails() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let (_, spec) = server.script("old", &Script::default())?;
    let mut watch = server.watch().await?;
    let on_demand = ModelSpec {
        load_on_demand: true,
        ..spec
    };
    server.load("old", on_demand).await?;
    point(&server, &mut watch, "old").await?;
    server.client.unload("old").send().await?;
    watch.until("old", ModelState::Unloaded).await?;
    server.answer(ALIAS).await?;
    let pid = watch.until("old", ModelState::Ready).await?.worker_pid;
    assert!(!server.stubs.is_desired("old").await?);
    let fails = Script::loading(LoadKind::Error);
    let outcome = to_new(&server, &mut watch, SwitchStrategy::LoadFirst, &fails).await?;
    assert_eq!(outcome, SwitchOutcome::RolledBack);
    // A switch back and forth would bring anything to light that is still on its way.
    point(&server, &mut watch, "old").await?;
    assert_serves(&server, pid).await?;
    Ok(())
}

/// The switch was the last to hold it, and does not keep what a session left.
#[hangar_tests::test]
async fn what_a_session_leaves_to_a_switch_is_unloaded_at_its_end() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let mut fails = Script::gated();
    fails.load.kind = LoadKind::Error;
    let (path, spec) = server.script("new", &fails)?;
    let (_, old) = server.script("old", &Script::default())?;
    server.load("old", old).await?;
    let mut watch = server.watch().await?;
    point(&server, &mut watch, "old").await?;
    server.client.unload("old").send().await?;
    watch.until("old", ModelState::Unloaded).await?;
    let session = server.stubs.create_session(None).await?;
    let (_, old) = server.script("old", &Script::default())?;
    server.stubs.load(load_for(&session, "old", old)).await?;
    watch.until("old", ModelState::Ready).await?;
    let gate = Gate::new(&path, "load")?;
    let request = SwitchModelRequest {
        spec: Some(spec),
        ..switch(ALIAS, "new", SwitchStrategy::LoadFirst)
    };
    let begun = server.stubs.switch(request).await?;
    watch.until("new", ModelState::Loading).await?;
    assert!(server.stubs.close(&session.session_id).await?.is_empty());
    gate.open()?;
    let ended = watch.ended(&begun.switch_id).await?;
    assert_eq!(ended.outcome(), SwitchOutcome::RolledBack);
    watch.until("old", ModelState::Unloaded).await?;
    Ok(())
}
