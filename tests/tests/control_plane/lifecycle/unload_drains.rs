//! What becomes of running requests when their model is unloaded.

use std::time::Duration;

use anyhow::Result;
use hangar_client::{
    Completion, Error,
    v1::{
        DesiredState, ErrorReason,
        ModelState::{Draining, Ready, Unloaded},
        ModelUnload,
    },
};
use hangar_tests::{
    background::Background,
    processes,
    refusals::refusal,
    scripted::{Gate, Script, ScriptedEvent},
    server::{DEADLINE, NEVER, TestServer, Transitions},
    time_enough::with_time_enough,
};
use tokio::time::timeout;
use tonic::Code;

/// A model that an unload drains, because of a request that is held at the gate.
struct HeldDrain {
    server: TestServer,
    worker: u32,
    gate: Gate,
    transitions: Transitions,
    answer: Background<Result<Completion, Error>>,
    unload: Background<Result<ModelUnload, Error>>,
}

impl HeldDrain {
    async fn begin(limit: Duration) -> Result<Self> {
        let server = TestServer::scripted()
            .script(&Script::gated())
            .start()
            .await?;
        let worker = server.ready().await?.worker_pid;
        let gate = server.gate("token")?;
        let mut events = server.events()?;
        let mut transitions = server.follow("m").await?;
        let answer = server.client.generate("m").prompt("x").max_tokens(3).text();
        let answer = Background::start(answer);
        timeout(DEADLINE, events.until(ScriptedEvent::Generate)).await??;
        let unload = server.client.unload("m").drain_timeout(limit).send();
        let unload = Background::start(unload);
        transitions.until(Draining).await?;
        Ok(Self {
            server,
            worker,
            gate,
            transitions,
            answer,
            unload,
        })
    }
}

#[hangar_tests::test]
async fn running_requests_may_end_and_no_other_begins() -> Result<()> {
    let mut drain = HeldDrain::begin(NEVER).await?;
    let late = drain.server.client.generate("m").prompt("x").text().await;
    refusal(late, Code::FailedPrecondition, ErrorReason::ModelNotLoaded);
    let status = drain.server.info().await?.status.unwrap_or_default();
    assert_eq!((status.state(), status.in_flight), (Draining, 1));
    drain.gate.open()?;
    assert_eq!(drain.answer.end().await??.text, "t0 t1 t2 ");
    let unload = drain.unload.end().await??;
    assert!(unload.was_loaded && !unload.killed);
    assert!(!processes::exists(drain.worker));
    drain.transitions.until(Unloaded).await?;
    Ok(())
}

#[hangar_tests::test]
async fn requests_that_outlast_the_drain_are_ended() -> Result<()> {
    let drain = HeldDrain::begin(Duration::from_millis(200)).await?;
    let ended = refusal(
        drain.answer.end().await?,
        Code::Unavailable,
        ErrorReason::ModelUnloaded,
    );
    assert_eq!(ended.details().retry_after, None);
    let unload = drain.unload.end().await??;
    assert!(unload.was_loaded && !unload.killed);
    assert!(!processes::exists(drain.worker));
    Ok(())
}

#[hangar_tests::test]
async fn a_forced_unload_does_not_drain() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .time("--drain-timeout", NEVER)
        .time("--shutdown-timeout", NEVER * 2)
        .start()
        .await?;
    server.ready().await?;
    let _gate = server.gate("token")?;
    let mut events = server.events()?;
    let answer = Background::start(server.client.generate("m").prompt("x").text());
    timeout(DEADLINE, events.until(ScriptedEvent::Generate)).await??;
    timeout(DEADLINE, server.client.unload("m").force().send()).await??;
    refusal(
        answer.end().await?,
        Code::Unavailable,
        ErrorReason::ModelUnloaded,
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_second_unload_can_shorten_a_drain() -> Result<()> {
    let drain = HeldDrain::begin(NEVER).await?;
    let forced = drain.server.client.unload("m").force().send();
    let forced = timeout(DEADLINE, forced).await??;
    assert!(forced.was_loaded);
    refusal(
        drain.answer.end().await?,
        Code::Unavailable,
        ErrorReason::ModelUnloaded,
    );
    assert_eq!(
        drain.unload.end().await??.host_bytes_freed,
        forced.host_bytes_freed
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_second_unload_cannot_lengthen_a_drain() -> Result<()> {
    with_time_enough(Duration::from_secs(3), async |limit| {
        let drain = HeldDrain::begin(limit).await?;
        let second = drain.server.client.unload("m").drain_timeout(NEVER).send();
        let second = timeout(DEADLINE, second).await??;
        assert!(drain.unload.end().await??.was_loaded);
        // Else the first one had ended before.
        Ok(second.was_loaded.then_some(()))
    })
    .await
}

#[hangar_tests::test]
async fn a_load_while_draining_is_remembered() -> Result<()> {
    let mut drain = HeldDrain::begin(NEVER).await?;
    let load = drain.server.load_m().send().await?;
    assert!(!load.already_loaded);
    let info = drain.server.info().await?;
    assert_eq!(info.desired_state(), DesiredState::Loaded);
    assert_eq!(info.status.unwrap_or_default().state(), Draining);
    let waiting = Background::start(drain.server.load_m().wait());
    drain.gate.open()?;
    assert_eq!(drain.answer.end().await??.text, "t0 t1 t2 ");
    assert!(drain.unload.end().await??.was_loaded);
    assert!(!processes::exists(drain.worker));
    let ready = drain.transitions.until(Ready).await?;
    assert_eq!(ready.load_id, load.load_id);
    assert_ne!(ready.worker_pid, drain.worker);
    assert_eq!(waiting.end().await??.load_id, load.load_id);
    Ok(())
}
