//! UnloadModel: what it says, and that what it says is so.

use anyhow::{Context, Result};
use hangar_client::v1::{
    DesiredState, ErrorReason,
    ModelState::{Failed, Ready, Unloaded, Unloading},
    UnloadVerification,
};
use hangar_tests::{
    background::Background,
    processes,
    refusals::refusal,
    scripted::{LoadKind, Script, ShutdownKind},
    server::{NEVER, TestServer, spec},
};
use rustix::process::Signal;
use tonic::Code;

/// A server whose worker stays in UNLOADING until the test kills it.
async fn stays() -> Result<TestServer> {
    let script = Script {
        shutdown: ShutdownKind::Ignore,
        ..Script::default()
    };
    TestServer::scripted()
        .script(&script)
        .time("--kill-timeout", NEVER)
        .start()
        .await
}

#[hangar_tests::test]
async fn unloading_what_is_not_loaded_succeeds_and_says_so() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    server.ready().await?;
    assert!(server.client.unload("m").send().await?.was_loaded);
    let again = server.client.unload("m").send().await?;
    assert!(!again.was_loaded && !again.killed);
    assert_eq!(again.verification(), UnloadVerification::Unspecified);
    assert_eq!((again.host_bytes_freed, again.device_bytes_freed), (0, 0));
    let unknown = server.client.unload("n").send().await;
    refusal(unknown, Code::NotFound, ErrorReason::ModelNotFound);
    Ok(())
}

#[hangar_tests::test]
async fn unloading_a_failed_model_clears_it() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::loading(LoadKind::Error))
        .start()
        .await?;
    let mut transitions = server.follow("m").await?;
    assert!(server.load_m().wait().await.is_err());
    assert_eq!(transitions.until(Failed).await?.reason, "WORKER_DIED");
    assert!(!server.client.unload("m").send().await?.was_loaded);
    let status = transitions.until(Unloaded).await?;
    assert_eq!(status.reason, "");
    assert_eq!(server.info().await?.desired_state(), DesiredState::Unloaded);
    Ok(())
}

#[hangar_tests::test]
async fn an_unload_verifies_that_the_worker_is_gone() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    let worker = server.ready().await?.worker_pid;
    let unload = server.client.unload("m").send().await?;
    assert!(!processes::exists(worker));
    assert!(unload.was_loaded && !unload.killed);
    assert_eq!(unload.verification(), UnloadVerification::Reaped);
    assert!(unload.host_bytes_freed > 0 && unload.elapsed.is_some());
    let status = server.info().await?.status.context("a status")?;
    assert_eq!((status.state(), status.worker_pid), (Unloaded, 0));
    assert!(status.memory.is_none() && status.progress.is_none());
    Ok(())
}

#[hangar_tests::test]
async fn a_load_while_unloading_is_remembered() -> Result<()> {
    let server = stays().await?;
    let first = server.ready().await?;
    let mut transitions = server.follow("m").await?;
    let unload = Background::start(server.client.unload("m").send());
    transitions.until(Unloading).await?;
    let load = server.load_m().send().await?;
    assert_ne!(load.load_id, first.load_id);
    assert_eq!(server.load_m().send().await?.load_id, load.load_id);
    processes::signal(first.worker_pid, Signal::KILL)?;
    assert!(unload.end().await??.was_loaded);
    assert!(!processes::exists(first.worker_pid));
    assert_eq!(transitions.until(Ready).await?.load_id, load.load_id);
    assert_eq!(server.info().await?.desired_state(), DesiredState::Loaded);
    Ok(())
}

#[hangar_tests::test]
async fn a_remembered_load_is_forgotten_by_the_next_unload() -> Result<()> {
    let server = stays().await?;
    let worker = server.ready().await?.worker_pid;
    let mut transitions = server.follow("m").await?;
    let one = Background::start(server.client.unload("m").send());
    transitions.until(Unloading).await?;
    let load = Background::start(server.load_m().wait());
    server
        .info_when(|info| info.desired_state() == DesiredState::Loaded)
        .await?;
    let other = Background::start(server.client.unload("m").send());
    refusal(load.end().await?, Code::Aborted, ErrorReason::LoadCancelled);
    processes::signal(worker, Signal::KILL)?;
    assert!(other.end().await??.was_loaded);
    assert!(one.end().await??.was_loaded);
    transitions.until(Unloaded).await?;
    let info = server.info().await?;
    assert_eq!(info.desired_state(), DesiredState::Unloaded);
    assert_eq!(info.status.context("a status")?.state(), Unloaded);
    Ok(())
}

#[hangar_tests::test]
async fn all_models_are_unloaded_at_once() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    server.ready().await?;
    for id in ["a", "b"] {
        let path = server.fixtures.scripted(id, &Script::default())?;
        server.client.load(id).spec(spec(&path)).wait().await?;
    }
    assert_eq!(processes::children(server.pid())?.len(), 3);
    let answer = server.client.unload_all().send().await?;
    let ids: Vec<_> = answer
        .unloads
        .iter()
        .map(|unload| unload.model_id.as_str())
        .collect();
    assert_eq!(ids, ["a", "b", "m"]);
    assert!(
        answer
            .unloads
            .iter()
            .all(|unload| unload.was_loaded && unload.error.is_none())
    );
    assert!(answer.models_remaining.is_empty());
    assert!(processes::children(server.pid())?.is_empty());
    assert!(server.client.unload_all().send().await?.unloads.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn an_unload_lists_the_models_that_remain() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    server.ready().await?;
    let path = server.fixtures.scripted("n", &Script::default())?;
    server.client.load("n").spec(spec(&path)).wait().await?;
    let request = hangar_client::v1::UnloadModelRequest {
        target: Some(hangar_client::v1::unload_model_request::Target::ModelId(
            "m".into(),
        )),
        ..Default::default()
    };
    let answer = server.client.model_service().unload_model(request).await?;
    assert_eq!(answer.into_inner().models_remaining, ["n"]);
    Ok(())
}
