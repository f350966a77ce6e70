//! Attempts survive the server's own death: a load that kills the container does not loop for ever.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use hangar_client::{
    convert::to_proto_duration,
    v1::{
        LoadOutcome, ModelSpec,
        ModelState::{Backoff, Failed, Loading, Ready, Unloaded},
        ModelStatus,
        RestartMode::{Never, OnFailure},
        RestartPolicy,
    },
};
use hangar_tests::{
    info,
    installation::Installation,
    scripted::{Gate, Script},
    server::{TestServer, restarting, spec},
};

/// A server that was killed while its model `m` was LOADING, and the gate that the model waits at.
async fn die_loading(
    installation: &Installation,
    spec: impl Fn(&Path) -> ModelSpec,
) -> Result<Gate> {
    let directory = installation.model("m", &Script::gated())?;
    let gate = Gate::new(&directory, "load")?;
    let server = installation.start().await?;
    let mut transitions = server.follow("m").await?;
    let client = server.connect().await?;
    client.load("m").spec(spec(&directory)).send().await?;
    transitions.until(Loading).await?;
    installation.kill(server).await?;
    Ok(gate)
}

/// Where the model stands once it is at rest, in BACKOFF or FAILED.
async fn given_up(server: &TestServer) -> Result<ModelStatus> {
    let mut transitions = server.follow("m").await?;
    loop {
        if let Some(status) = transitions.current()
            && [Backoff, Failed].contains(&status.state())
        {
            return Ok(status.clone());
        }
        transitions.next().await?;
    }
}

#[hangar_tests::test]
async fn an_attempt_that_the_server_died_in_counts() -> Result<()> {
    let installation = Installation::scripted()?;
    let gate = die_loading(&installation, |path| restarting(path, OnFailure, 3)).await?;
    let server = installation.start().await?;
    let second = server.follow("m").await?.until(Loading).await?;
    assert_eq!(second.attempt, 2);
    installation.kill(server).await?;

    let server = installation.start().await?;
    let mut transitions = server.follow("m").await?;
    let third = transitions.until(Loading).await?;
    assert_eq!(third.attempt, 3);
    gate.step(1)?;
    transitions.until(Ready).await?;
    let loads = info::model(&server.connect().await?, "m")
        .await?
        .recent_loads;
    assert_eq!(loads[0].outcome(), LoadOutcome::Succeeded);
    assert_eq!(loads[0].attempts, 3);
    // What is known of the end of an attempt is on disk when a later change is.
    let flush = installation.model("flush", &Script::default())?;
    server
        .connect()
        .await?
        .create_model("flush", spec(&flush))
        .send()
        .await?;
    installation.kill(server).await?;

    // READY is a clean end: it begins anew.
    gate.open()?;
    let server = installation.start().await?;
    let ready = server.follow("m").await?.until(Ready).await?;
    assert_eq!(ready.attempt, 1);
    Ok(())
}

#[hangar_tests::test]
async fn the_last_attempt_is_the_last_one_across_restarts() -> Result<()> {
    let installation = Installation::scripted()?;
    let _gate = die_loading(&installation, |path| restarting(path, OnFailure, 2)).await?;
    let server = installation.start().await?;
    server.follow("m").await?.until(Loading).await?;
    installation.kill(server).await?;

    let server = installation.start().await?;
    let failed = given_up(&server).await?;
    assert_eq!(
        (failed.state(), failed.reason.as_str(), failed.attempt),
        (Failed, "WORKER_DIED", 2)
    );
    for words in ["the server ended during attempt 2", "memory_hint"] {
        assert!(failed.message.contains(words), "{}", failed.message);
    }
    assert!(installation.processes().len() == 1, "only the server runs");
    let loads = info::model(&server.connect().await?, "m")
        .await?
        .recent_loads;
    assert_eq!(
        (loads[0].outcome(), loads[0].attempts),
        (LoadOutcome::Failed, 2)
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_model_that_is_never_restarted_is_not_tried_again() -> Result<()> {
    let installation = Installation::scripted()?;
    let gate = die_loading(&installation, spec_never).await?;
    gate.open()?;
    let server = installation.start().await?;
    let failed = given_up(&server).await?;
    assert_eq!(
        (failed.state(), failed.reason.as_str(), failed.attempt),
        (Failed, "WORKER_DIED", 1)
    );
    // A request begins anew.
    let load = server.connect().await?.load("m").wait().await?;
    assert_eq!(load.status.context("a status")?.attempt, 1);
    Ok(())
}

fn spec_never(path: &Path) -> ModelSpec {
    restarting(path, Never, 5)
}

#[hangar_tests::test]
async fn the_back_off_after_the_servers_death_is_that_of_the_policy() -> Result<()> {
    let installation = Installation::scripted()?;
    let patient = |path: &Path| ModelSpec {
        restart_policy: Some(RestartPolicy {
            mode: OnFailure.into(),
            initial_backoff: Some(to_proto_duration(Duration::from_secs(600))),
            max_backoff: Some(to_proto_duration(Duration::from_secs(600))),
            ..RestartPolicy::default()
        }),
        ..spec(path)
    };
    let _gate = die_loading(&installation, patient).await?;
    let server = installation.start().await?;
    let waits = given_up(&server).await?;
    assert_eq!(
        (waits.state(), waits.reason.as_str(), waits.attempt),
        (Backoff, "WORKER_DIED", 1)
    );
    let retry =
        waits.next_retry_time.context("a time")?.seconds - waits.since.context("a time")?.seconds;
    assert!((449..=751).contains(&retry), "{retry} s");
    let mut transitions = server.follow("m").await?;
    server.connect().await?.unload("m").send().await?;
    let unloaded = transitions.next().await?;
    assert_eq!(unloaded.state(), Unloaded);
    assert!(unloaded.next_retry_time.is_none());
    Ok(())
}

#[hangar_tests::test]
async fn an_attempt_of_a_model_that_was_unloaded_since_does_not_count() -> Result<()> {
    let installation = Installation::scripted()?;
    let _gate = die_loading(&installation, |path| restarting(path, OnFailure, 9)).await?;
    let server = installation.start().await?;
    server.follow("m").await?.until(Loading).await?;
    server.connect().await?.unload("m").send().await?;
    installation.kill(server).await?;
    std::fs::remove_file(installation.fixtures.root().join("m/load"))?;
    let server = installation.start().await?;
    let load = server.connect().await?.load("m").wait().await?;
    assert_eq!(load.status.context("a status")?.attempt, 1);
    Ok(())
}
