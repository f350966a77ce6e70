//! A worker is killed from outside, in each state.

use anyhow::{Context, Result};
use hangar_client::v1::{
    ErrorReason,
    ModelState::{self, Draining, Failed, Loading, Starting, Unloaded, Unloading, Warming},
};
use hangar_tests::{
    background::Background,
    processes,
    refusals::refusal,
    scripted::{GenerateScript, Script, ScriptedEvent, ShutdownKind, WorkKind},
    server::{DEADLINE, NEVER, TestServer, TestServerBuilder},
};
use rustix::process::Signal;
use tokio::time::timeout;
use tonic::Code;

use super::{chunk, end};

/// A server that learns of a worker's end by that end only.
async fn server(script: &Script) -> Result<TestServer> {
    TestServer::scripted()
        .script(script)
        .with(|options: TestServerBuilder| {
            let options = options.checked().time("--hang-timeout", NEVER);
            let options = options.time("--stall-timeout", NEVER);
            options
                .time("--ready-timeout", NEVER)
                .time("--kill-timeout", NEVER)
        })
        .start()
        .await
}

async fn a_kill_fails_the_load_in(state: ModelState) -> Result<()> {
    let server = server(&Script::gated()).await?;
    let mut held = server.hold(state).await?;
    processes::signal(held.pid, Signal::KILL)?;
    let failed = held.transitions.next().await?;
    assert_eq!(
        (failed.state(), failed.reason.as_str()),
        (Failed, "WORKER_DIED")
    );
    assert!(failed.message.contains("SIGKILL"), "{}", failed.message);
    assert_eq!(failed.worker_pid, 0);
    assert!(!processes::exists(held.pid));
    let died = refusal(
        held.load.end().await?,
        Code::Unavailable,
        ErrorReason::WorkerDied,
    );
    assert!(died.details().retry_after.is_some());
    held.gate.open()?;
    server.ready().await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_worker_killed_while_starting_fails_the_load() -> Result<()> {
    a_kill_fails_the_load_in(Starting).await
}

#[hangar_tests::test]
async fn a_worker_killed_while_loading_fails_the_load() -> Result<()> {
    a_kill_fails_the_load_in(Loading).await
}

#[hangar_tests::test]
async fn a_worker_killed_while_warming_fails_the_load() -> Result<()> {
    a_kill_fails_the_load_in(Warming).await
}

#[hangar_tests::test]
async fn a_worker_killed_when_ready_ends_its_requests() -> Result<()> {
    let server = server(&Script::gated()).await?;
    let worker = server.ready().await?.worker_pid;
    let gate = server.gate("token")?;
    let mut transitions = server.follow("m").await?;
    let mut running = server.client.generate("m").prompt("x").stream().await?;
    gate.step(1)?;
    assert_eq!(chunk(&mut running).await?, "t0 ");
    processes::signal(worker, Signal::KILL)?;
    let failed = transitions.next().await?;
    assert_eq!(
        (failed.state(), failed.reason.as_str()),
        (Failed, "WORKER_DIED")
    );
    let died = refusal(
        timeout(DEADLINE, end(&mut running)).await?,
        Code::Unavailable,
        ErrorReason::WorkerDied,
    );
    assert!(died.details().retry_after.is_some());
    let late = server.client.generate("m").prompt("x").text().await;
    let late = refusal(late, Code::FailedPrecondition, ErrorReason::ModelNotLoaded);
    assert!(late.message().contains("WORKER_DIED"), "{late}");
    let metrics = server.info().await?.metrics.context("metrics")?;
    assert_eq!((metrics.requests_failed, metrics.in_flight), (1, 0));
    Ok(())
}

#[hangar_tests::test]
async fn a_killed_worker_ends_waiting_requests_too() -> Result<()> {
    let server = server(&Script::gated()).await?;
    let mut spec = server.spec();
    spec.max_concurrency = 1;
    let load = server.client.load("m").spec(spec).wait().await?;
    let worker = load.status.context("a status")?.worker_pid;
    let _gate = server.gate("token")?;
    let requests =
        [(); 3].map(|()| Background::start(server.client.generate("m").prompt("x").text()));
    server
        .info_when(|info| {
            info.status
                .as_ref()
                .is_some_and(|s| (s.in_flight, s.queued) == (1, 2))
        })
        .await?;
    processes::signal(worker, Signal::KILL)?;
    for request in requests {
        let died = refusal(
            request.end().await?,
            Code::Unavailable,
            ErrorReason::WorkerDied,
        );
        assert!(died.details().retry_after.is_some());
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_worker_killed_while_draining_is_reported() -> Result<()> {
    let server = server(&Script::gated()).await?;
    let worker = server.ready().await?.worker_pid;
    let _gate = server.gate("token")?;
    let mut events = server.events()?;
    let mut transitions = server.follow("m").await?;
    let running = Background::start(server.client.generate("m").prompt("x").text());
    timeout(DEADLINE, events.until(ScriptedEvent::Generate)).await??;
    let unload = Background::start(server.client.unload("m").send());
    transitions.until(Draining).await?;
    processes::signal(worker, Signal::KILL)?;
    let unloading = transitions.next().await?;
    assert_eq!(unloading.state(), Unloading);
    assert_eq!(unloading.reason, "WORKER_DIED");
    let died = refusal(
        running.end().await?,
        Code::Unavailable,
        ErrorReason::WorkerDied,
    );
    assert!(died.details().retry_after.is_some());
    assert!(unload.end().await??.was_loaded);
    assert_eq!(transitions.until(Unloaded).await?.reason, "");
    Ok(())
}

#[hangar_tests::test]
async fn a_worker_killed_while_unloading_ends_the_unload() -> Result<()> {
    let script = Script {
        shutdown: ShutdownKind::Ignore,
        ..Script::default()
    };
    let server = server(&script).await?;
    let worker = server.ready().await?.worker_pid;
    let mut transitions = server.follow("m").await?;
    let unload = Background::start(server.client.unload("m").send());
    transitions.until(Unloading).await?;
    processes::signal(worker, Signal::KILL)?;
    let unload = unload.end().await??;
    assert!(unload.was_loaded && !unload.killed);
    assert!(!processes::exists(worker));
    transitions.until(Unloaded).await?;
    Ok(())
}

#[hangar_tests::test]
async fn no_worker_outlives_a_killed_server() -> Result<()> {
    for state in [Starting, Loading, Warming] {
        let server = server(&Script::gated()).await?;
        let ready = server.fixtures.scripted("n", &Script::default())?;
        let ready = server
            .client
            .load("n")
            .spec(hangar_tests::server::spec(&ready))
            .wait()
            .await?;
        let held = server.hold(state).await?;
        server.kill()?;
        for pid in [ready.status.context("a status")?.worker_pid, held.pid] {
            processes::ended(pid, DEADLINE).await?;
        }
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_process_that_a_dead_worker_leaves_to_the_server_is_reaped() -> Result<()> {
    let script = Script::generating(GenerateScript {
        gate: Some("token".into()),
        work: WorkKind::Child,
        ..GenerateScript::default()
    });
    let server = TestServer::scripted()
        .script(&script)
        .as_subreaper()
        .time("--hang-timeout", NEVER)
        .start()
        .await?;
    let worker = server.ready().await?.worker_pid;
    let _gate = server.gate("token")?;
    let _running = server.client.generate("m").prompt("x").stream().await?;
    let child = processes::eventually("the worker has a child", DEADLINE, || {
        processes::children(worker).ok()?.first().copied()
    })
    .await?;
    processes::signal(worker, Signal::KILL)?;
    processes::eventually("the child was reaped", DEADLINE, || {
        (!processes::exists(child)).then_some(())
    })
    .await
}
