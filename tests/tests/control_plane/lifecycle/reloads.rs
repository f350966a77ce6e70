//! LoadModel with `force_reload`.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    Completion, Error, Transport,
    inference::{
        RepositoryModelLoadRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
    },
    v1::{
        ErrorReason, ModelInfo, ModelLoad, ModelSpec,
        ModelState::{Draining, Loading, Ready, Unloaded},
    },
};
use hangar_tests::{
    background::Background,
    failpoints::Failpoints,
    processes,
    refusals::refusal,
    scripted::{Gate, Script, ScriptedEvent},
    server::{DEADLINE, TestServer},
};
use tokio::time::timeout;
use tonic::Code;

use super::other_spec;

#[hangar_tests::test]
async fn a_reload_of_a_ready_model_gives_it_a_new_worker() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    let before = server.ready().await?;
    let reload = server.load_m().force_reload().wait().await?;
    assert!(!reload.already_loaded);
    assert_ne!(reload.load_id, before.load_id);
    let status = reload.status.context("a status")?;
    assert_ne!(status.worker_pid, before.worker_pid);
    assert!(processes::is_running(status.worker_pid) && !processes::exists(before.worker_pid));
    let info = server.info().await?;
    assert_eq!((info.version, info.recent_loads.len()), (1, 2));
    Ok(())
}

#[hangar_tests::test]
async fn a_reload_without_wait_answers_at_once() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    let before = server.ready().await?;
    let mut transitions = server.follow("m").await?;
    let reload = server.client.load("m").force_reload().send().await?;
    assert!(!reload.already_loaded);
    assert_ne!(reload.load_id, before.load_id);
    transitions.until(Unloaded).await?;
    assert_eq!(transitions.until(Ready).await?.load_id, reload.load_id);
    Ok(())
}

#[hangar_tests::test]
async fn a_reload_joins_an_equal_load_that_is_under_way() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .start()
        .await?;
    let mut held = server.hold(Loading).await?;
    let first = server.load_m().send().await?;
    let reload = server.load_m().force_reload().send().await?;
    assert_eq!(reload.load_id, first.load_id);
    held.gate.open()?;
    let ready = held.transitions.until(Ready).await?;
    assert_eq!((ready.load_id, ready.worker_pid), (first.load_id, held.pid));
    Ok(())
}

#[hangar_tests::test]
async fn a_reload_replaces_the_spec() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    server.ready().await?;
    let before = server.info().await?;
    let reload = server
        .client
        .load("m")
        .spec(other_spec(&server))
        .force_reload();
    reload.wait().await?;
    let after = server.info().await?;
    assert_eq!((before.version, after.version), (1, 2));
    assert_ne!(before.etag, after.etag);
    assert_eq!(after.spec.map(|spec| spec.context_length), Some(77));
    let old = server.load_m().wait().await;
    refusal(old, Code::FailedPrecondition, ErrorReason::SpecConflict);
    Ok(())
}

#[hangar_tests::test]
async fn a_reload_with_another_spec_ends_a_load_that_is_under_way() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .start()
        .await?;
    let mut held = server.hold(Loading).await?;
    let first = server.load_m().send().await?;
    let reload = server
        .client
        .load("m")
        .spec(other_spec(&server))
        .force_reload();
    let reload = reload.send().await?;
    assert_ne!(reload.load_id, first.load_id);
    refusal(
        held.load.end().await?,
        Code::Aborted,
        ErrorReason::LoadCancelled,
    );
    held.gate.open()?;
    let ready = held.transitions.until(Ready).await?;
    assert_eq!(ready.load_id, reload.load_id);
    assert_ne!(ready.worker_pid, held.pid);
    assert!(!processes::exists(held.pid));
    assert_eq!(server.info().await?.version, 2);
    Ok(())
}

#[hangar_tests::test]
async fn a_reload_lets_running_requests_end() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .start()
        .await?;
    server.ready().await?;
    let gate = server.gate("token")?;
    let mut events = server.events()?;
    let mut transitions = server.follow("m").await?;
    let answer = Background::start(server.client.generate("m").prompt("x").max_tokens(3).text());
    timeout(DEADLINE, events.until(ScriptedEvent::Generate)).await??;
    let reload = Background::start(server.load_m().force_reload().wait());
    transitions.until(Draining).await?;
    gate.open()?;
    assert_eq!(answer.end().await??.text, "t0 t1 t2 ");
    reload.end().await??;
    Ok(())
}

/// Holds a reload in its drain: a request that has to be let on by the gate, and the reload.
struct HeldReload {
    gate: Gate,
    answer: Background<Result<Completion, Error>>,
    reload: Background<Result<ModelLoad, Error>>,
}

async fn reloading(server: &TestServer) -> Result<HeldReload> {
    let gate = server.gate("token")?;
    let mut events = server.events()?;
    let mut transitions = server.follow("m").await?;
    let answer = Background::start(server.client.generate("m").prompt("x").max_tokens(3).text());
    timeout(DEADLINE, events.until(ScriptedEvent::Generate)).await??;
    let reload = Background::start(server.client.load("m").force_reload().wait());
    transitions.until(Draining).await?;
    Ok(HeldReload {
        gate,
        answer,
        reload,
    })
}

#[hangar_tests::test]
async fn requests_during_a_reload_get_model_loading() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .start()
        .await?;
    server.ready().await?;
    let held = reloading(&server).await?;
    let status = server.info().await?.status.context("a status")?;
    assert_eq!(status.state(), Draining);
    assert!(!status.next_load_id.is_empty());
    let early = server.client.generate("m").prompt("x").text().await;
    let early = refusal(early, Code::Unavailable, ErrorReason::ModelLoading);
    let wait = early.details().retry_after.context("a time")?;
    assert!(wait >= Duration::from_millis(100), "{wait:?}");
    assert!(!early.to_string().contains(" 0.0 s"), "{early}");
    let unscheduled = server.client.tokenize("m", "x").send().await;
    refusal(unscheduled, Code::Unavailable, ErrorReason::ModelLoading);
    held.gate.open()?;
    held.answer.end().await??;
    let reload = held.reload.end().await??;
    assert_eq!(reload.load_id, status.next_load_id);
    let status = server.info().await?.status.context("a status")?;
    assert_eq!((status.state(), status.next_load_id.as_str()), (Ready, ""));
    Ok(())
}

#[hangar_tests::test]
async fn reloads_with_other_specs_end_those_that_have_not_begun() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .start()
        .await?;
    server.ready().await?;
    let held = reloading(&server).await?;
    let other = server.client.load("m").spec(other_spec(&server));
    let second = Background::start(other.force_reload().wait());
    refusal(
        held.reload.end().await?,
        Code::Aborted,
        ErrorReason::LoadCancelled,
    );
    // Nothing served when this one and the one before it were found.
    let third = Background::start(server.load_m().force_reload().wait());
    refusal(
        second.end().await?,
        Code::Aborted,
        ErrorReason::LoadCancelled,
    );
    held.gate.open()?;
    held.answer.end().await??;
    let third = third.end().await??;
    let info = server.info().await?;
    let status = info.status.context("a status")?;
    assert_eq!((status.state(), status.load_id), (Ready, third.load_id));
    assert_eq!((info.version, info.reload_required), (3, false));
    assert_eq!(info.spec.map(|spec| spec.context_length), Some(0));
    Ok(())
}

#[hangar_tests::test]
async fn an_unload_during_a_reload_cancels_the_load() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .start()
        .await?;
    server.ready().await?;
    let held = reloading(&server).await?;
    let unload = Background::start(server.client.unload("m").send());
    let gone = |info: &ModelInfo| {
        let status = info.status.as_ref();
        status.is_some_and(|status| status.next_load_id.is_empty())
    };
    server.info_when(gone).await?;
    let late = server.client.generate("m").prompt("x").text().await;
    refusal(late, Code::FailedPrecondition, ErrorReason::ModelNotLoaded);
    held.gate.open()?;
    held.answer.end().await??;
    unload.end().await??;
    refusal(
        held.reload.end().await?,
        Code::Aborted,
        ErrorReason::LoadCancelled,
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_request_that_may_load_the_model_waits_for_the_reload() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .start()
        .await?;
    let spec = ModelSpec {
        load_on_demand: true,
        ..server.spec()
    };
    let before = server.client.load("m").spec(spec).wait().await?;
    let held = reloading(&server).await?;
    let waiting = Background::start(server.client.generate("m").prompt("x").max_tokens(2).text());
    held.gate.open()?;
    assert_eq!(waiting.end().await??.text, "t0 t1 ");
    held.answer.end().await??;
    let reload = held.reload.end().await??;
    let pid = |load: ModelLoad| load.status.map(|status| status.worker_pid);
    assert_ne!(pid(reload), pid(before));
    assert_eq!(
        server.info().await?.recent_loads.len(),
        2,
        "one load for both"
    );
    Ok(())
}

/// A request that waited while another one ran, until the drain of a reload ended: it never began.
struct Waited {
    server: TestServer,
    waiting: Background<Result<Completion, Error>>,
    /// What holds the load, and the tokens.
    gates: [Gate; 2],
}

async fn reloaded_while_one_waits(load_on_demand: bool) -> Result<Waited> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .time("--drain-timeout", Duration::from_millis(300))
        .start()
        .await?;
    let spec = ModelSpec {
        max_concurrency: 1,
        load_on_demand,
        ..server.spec()
    };
    server.client.load("m").spec(spec).wait().await?;
    let gates = [server.gate("load")?, server.gate("token")?];
    let ask = || Background::start(server.client.generate("m").prompt("x").max_tokens(2).text());
    let running = ask();
    server.until_occupancy(1, 0).await?;
    let waiting = ask();
    server.until_occupancy(1, 1).await?;
    let reload = server.client.load("m").force_reload().send().await?;
    assert!(!reload.already_loaded);
    refusal(
        running.end().await?,
        Code::Unavailable,
        ErrorReason::ModelUnloaded,
    );
    Ok(Waited {
        server,
        waiting,
        gates,
    })
}

#[hangar_tests::test]
async fn a_request_that_waits_when_the_drain_ends_is_told_when_to_come_back() -> Result<()> {
    let Waited {
        server,
        waiting,
        gates: [load, _token],
    } = reloaded_while_one_waits(false).await?;
    let early = refusal(
        waiting.end().await?,
        Code::Unavailable,
        ErrorReason::ModelLoading,
    );
    assert!(early.details().retry_after.is_some(), "{early}");
    load.open()?;
    server.client.load("m").wait().await?;
    let metrics = server.info().await?.metrics.context("metrics")?;
    assert_eq!((metrics.requests_total, metrics.requests_failed), (1, 1));
    Ok(())
}

#[hangar_tests::test]
async fn a_request_that_waits_when_the_drain_ends_waits_on_where_it_may() -> Result<()> {
    let Waited {
        server: _server,
        waiting,
        gates,
    } = reloaded_while_one_waits(true).await?;
    for gate in &gates {
        gate.open()?;
    }
    assert_eq!(waiting.end().await??.text, "t0 t1 ");
    Ok(())
}

/// Also in the moments in which it is UNLOADING and UNLOADED on its way.
#[hangar_tests::test]
async fn at_no_moment_of_a_reload_is_the_model_not_loaded() -> Result<()> {
    let server = TestServer::tiny().await?;
    for _ in 0..5 {
        let worker = server.worker().await?;
        let reload = server.client.load("m").force_reload().send().await?;
        assert!(!reload.already_loaded);
        while server.worker().await? == worker || server.worker().await? == 0 {
            let answer = server.greedy("Hello").max_tokens(1).text().await;
            if let Err(error) = answer {
                refusal::<()>(Err(error), Code::Unavailable, ErrorReason::ModelLoading);
            }
        }
        server.client.load("m").wait().await?;
    }
    Ok(())
}

/// As Triton's clients load a model: anew if its files have changed.
async fn load_as_triton(transport: Transport, name: &'static str) -> Result<()> {
    let mut stub = GrpcInferenceServiceClient::new(transport);
    let request = RepositoryModelLoadRequest {
        model_name: name.into(),
        ..RepositoryModelLoadRequest::default()
    };
    stub.repository_model_load(request).await?;
    Ok(())
}

#[hangar_tests::test]
async fn callers_who_find_the_same_files_changed_make_one_reload() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&Script::default())
        .failpoints(&failpoints)
        .start()
        .await?;
    let old = server.ready().await?.worker_pid;
    server.client.switch("alias", "m").wait().await?;
    std::fs::write(server.directory.join("config.json"), "{}")?;

    // One has found them changed, and comes to order its load after that of another has ended.
    let held = failpoints.hold("load-order.alias")?;
    let late = Background::start(load_as_triton(server.client.transport(), "alias"));
    held.reached().await?;
    load_as_triton(server.client.transport(), "m").await?;
    let new = server.info().await?.status.context("a status")?.worker_pid;
    assert_ne!(new, old);
    drop(held);
    late.end().await??;
    assert!(processes::is_running(new));
    assert_eq!(server.info().await?.recent_loads.len(), 2);

    std::fs::write(server.directory.join("config.json"), "{ }")?;
    load_as_triton(server.client.transport(), "alias").await?;
    assert!(!processes::exists(new));
    Ok(())
}
