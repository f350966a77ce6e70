//! What cannot be loaded is not loaded anew: the old worker serves on.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    Error, Refusal,
    v1::{
        ErrorReason, LoadModelRequest, ModelInfo, ModelSpec,
        ModelState::{Draining, Ready, Warming},
        load_model_request,
    },
};
use hangar_tests::{
    background::Background,
    failpoints::Failpoints,
    processes::children,
    refusals::refusal,
    scripted::{Fault, ReadyKind, Script, ScriptedEvent},
    server::{DEADLINE, TestServer, spec},
};
use tokio::time::timeout;
use tonic::Code;

/// What a refused reload must leave as it was.
fn kept(info: &ModelInfo) -> impl PartialEq + std::fmt::Debug {
    let status = info.status.clone().unwrap_or_default();
    (
        (status.state(), status.generation, status.worker_pid),
        (status.load_id, info.version, info.etag.clone()),
        (info.desired_state, info.recent_loads.clone()),
    )
}

fn assert_serves_on(refused: &Refusal) {
    assert!(refused.message().contains("serves on"), "{refused}");
}

#[hangar_tests::test]
async fn files_that_have_become_unusable_are_refused_and_the_model_serves_on() -> Result<()> {
    let server = TestServer::tiny().await?;
    let answer = server.greedy("Hello").max_tokens(5).text().await?.text;
    let before = server.info().await?;
    let config = server.fixtures.llama()?.join("config.json");
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, "{")?;
    for wait in [false, true] {
        let reload = server.client.load("m").force_reload();
        let refused = if wait {
            reload.wait().await
        } else {
            reload.send().await
        };
        let refused = refusal(
            refused,
            Code::FailedPrecondition,
            ErrorReason::ModelUnusable,
        );
        assert_serves_on(&refused);
        assert!(refused.message().contains("config.json"), "{refused}");
    }
    assert_eq!(kept(&server.info().await?), kept(&before));
    let again = server.greedy("Hello").max_tokens(5).text().await?.text;
    assert_eq!(again, answer);
    assert_eq!(children(server.pid())?.len(), 1);
    std::fs::write(&config, text)?;
    server.client.load("m").force_reload().wait().await?;
    assert_ne!(kept(&server.info().await?), kept(&before));
    Ok(())
}

#[hangar_tests::test]
async fn validate_only_looks_at_the_files_as_the_reload_would() -> Result<()> {
    let server = TestServer::tiny().await?;
    let before = server.info().await?;
    let validate = async || {
        let request = LoadModelRequest {
            target: Some(load_model_request::Target::ModelId("m".into())),
            force_reload: true,
            validate_only: true,
            ..LoadModelRequest::default()
        };
        server.stubs.load(request).await
    };
    assert!(validate().await?.loads.is_empty());
    let config = server.fixtures.llama()?.join("config.json");
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, "{")?;
    let unusable = |refused| {
        refusal(
            refused,
            Code::FailedPrecondition,
            ErrorReason::ModelUnusable,
        )
    };
    let foretold = unusable(validate().await.map(drop));
    let refused = server.client.load("m").force_reload().send().await;
    let refused = unusable(refused.map(drop));
    assert_eq!(foretold.message(), refused.message());
    assert_serves_on(&foretold);
    std::fs::write(&config, text)?;
    assert!(validate().await?.loads.is_empty());
    assert_eq!(kept(&server.info().await?), kept(&before));
    assert_eq!(children(server.pid())?.len(), 1);
    Ok(())
}

#[hangar_tests::test]
async fn a_spec_that_cannot_be_loaded_is_not_registered() -> Result<()> {
    let server = TestServer::tiny().await?;
    let before = server.info().await?;
    let spec = before.spec.clone();
    let spec = match spec {
        Some(spec) => spec,
        None => server
            .client
            .get_model("m")
            .send()
            .await?
            .spec
            .context("a spec")?,
    };
    let wider = ModelSpec {
        quantization: "no such type".to_owned(),
        ..spec.clone()
    };
    let longer = ModelSpec {
        context_length: 1_000_000,
        ..spec
    };
    for other in [wider, longer] {
        let reload = server.client.load("m").spec(other).force_reload();
        assert!(reload.wait().await.is_err());
        assert_eq!(kept(&server.info().await?), kept(&before));
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_worker_that_dies_or_says_nothing_in_its_inspection_leaves_the_old_one() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .time("--ready-timeout", Duration::from_secs(10))
        .start()
        .await?;
    server.ready().await?;
    let before = server.info().await?;
    for (ready, code, reason) in [
        (
            ReadyKind::Die(Fault::Kill),
            Code::Unavailable,
            ErrorReason::WorkerDied,
        ),
        (
            ReadyKind::Never,
            Code::DeadlineExceeded,
            ErrorReason::LoadStalled,
        ),
    ] {
        let script = Script {
            ready,
            ..Script::default()
        };
        script.write(&server.directory)?;
        let refused = server.client.load("m").force_reload().wait().await;
        assert_serves_on(&refusal(refused, code, reason));
        assert_eq!(kept(&server.info().await?), kept(&before));
        server
            .client
            .generate("m")
            .prompt("x")
            .max_tokens(1)
            .text()
            .await?;
        assert_eq!(children(server.pid())?.len(), 1);
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_model_whose_files_vanished_is_not_reloaded() -> Result<()> {
    let server = TestServer::tiny().await?;
    let before = server.info().await?;
    std::fs::remove_dir_all(server.fixtures.llama()?)?;
    let refused = server.client.load("m").force_reload().wait().await;
    refusal(
        refused,
        Code::FailedPrecondition,
        ErrorReason::ModelUnusable,
    );
    assert_eq!(kept(&server.info().await?), kept(&before));
    server.greedy("Hello").max_tokens(1).text().await?;
    Ok(())
}

/// A spec of files that an inspection finds unusable.
fn unusable(server: &TestServer) -> Result<ModelSpec> {
    let script = Script {
        ready: ReadyKind::Failure {
            reason: "MODEL_UNUSABLE".to_owned(),
            message: "the weights are broken".to_owned(),
        },
        ..Script::default()
    };
    Ok(spec(&server.fixtures.scripted("unusable", &script)?))
}

/// Changes the source of the model to one that cannot be loaded.
async fn break_source(server: &TestServer) -> Result<()> {
    let source = unusable(server)?.source;
    let etag = server.client.get_model("m").send().await?.etag;
    let update = server.client.update_model("m").etag(etag);
    let update = update.field("spec.source", move |model| {
        model.spec.get_or_insert_default().source = source;
    });
    assert!(update.send().await?.reload_required);
    Ok(())
}

fn assert_broken<T: std::fmt::Debug>(refused: Result<T, Error>) {
    let refused = refusal(
        refused,
        Code::FailedPrecondition,
        ErrorReason::ModelUnusable,
    );
    assert_serves_on(&refused);
    assert!(refused.message().contains("are broken"), "{refused}");
}

#[hangar_tests::test]
async fn what_was_changed_since_its_inspection_is_inspected_again() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&Script::default())
        .failpoints(&failpoints)
        .start()
        .await?;
    let worker = server.ready().await?.worker_pid;
    let held = failpoints.hold("load-order.m")?;
    let reload = Background::start(server.client.load("m").force_reload().wait());
    held.reached().await?;
    break_source(&server).await?;
    drop(held);
    assert_broken(reload.end().await?);
    assert_eq!(server.worker().await?, worker);
    server.client.generate("m").prompt("x").text().await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_change_during_the_drain_is_not_loaded_without_an_inspection() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .start()
        .await?;
    let worker = server.ready().await?.worker_pid;
    let gate = server.gate("token")?;
    let mut events = server.events()?;
    let mut transitions = server.follow("m").await?;
    let answer = Background::start(server.client.generate("m").prompt("x").max_tokens(1).text());
    timeout(DEADLINE, events.until(ScriptedEvent::Generate)).await??;
    let reload = Background::start(server.client.load("m").force_reload().wait());
    transitions.until(Draining).await?;
    break_source(&server).await?;
    gate.open()?;
    answer.end().await??;
    let reload = reload.end().await??.status.context("a status")?;
    assert_eq!(reload.state(), Ready);
    assert_ne!(reload.worker_pid, worker);
    let info = server.info().await?;
    assert!(info.reload_required, "{info:?}");
    // What is registered is loaded by the next one, once it was looked at.
    assert_broken(server.client.load("m").force_reload().wait().await);
    server.client.generate("m").prompt("x").text().await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_load_that_becomes_ready_meanwhile_is_not_replaced_without_an_inspection() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&Script::gated())
        .failpoints(&failpoints)
        .start()
        .await?;
    let mut loading = server.hold(Warming).await?;
    let held = failpoints.hold("load-order.m")?;
    let other = unusable(&server)?;
    let reload = server.client.load("m").spec(other).force_reload();
    let reload = Background::start(reload.wait());
    held.reached().await?;
    loading.gate.open()?;
    loading.transitions.until(Ready).await?;
    drop(held);
    assert_broken(reload.end().await?);
    let info = server.info().await?;
    assert_eq!((server.worker().await?, info.version), (loading.pid, 1));
    server.client.generate("m").prompt("x").text().await?;
    Ok(())
}
