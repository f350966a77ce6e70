//! Reloads whose files are inspected first: some at the same time, some that wait, and no more.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, stream::FuturesUnordered};
use hangar_client::v1::{ErrorReason, LoadModelRequest, load_model_request::Target};
use hangar_tests::{
    background::Background,
    refusals::refusal,
    scripted::{Events, Gate, Script, ScriptedEvent},
    server::{DEADLINE, NEVER, TestServer, spec},
};
use tokio::time::timeout;
use tonic::Code;

/// Inspections at the same time, and those that may wait besides.
const LIMITS: (usize, usize) = (2, 64);

async fn gated() -> Result<TestServer> {
    let server = TestServer::scripted().script(&Script::gated());
    server.time("--ready-timeout", NEVER).start().await
}

async fn started(events: &mut Events) -> Result<()> {
    timeout(DEADLINE, events.until(ScriptedEvent::Started)).await??;
    Ok(())
}

/// Holds as many inspections as there may be at the same time, of the model `m`, which is loaded.
async fn hold_all(server: &TestServer) -> Result<(Gate, Vec<Background<Result<()>>>)> {
    server.ready().await?;
    let gate = server.gate("ready")?;
    let mut events = server.events()?;
    let mut held = Vec::new();
    for _ in 0..LIMITS.0 {
        let reload = server.client.load("m").force_reload().wait();
        held.push(Background::start(async {
            reload.await.map(drop).map_err(Into::into)
        }));
        started(&mut events).await?;
    }
    Ok((gate, held))
}

#[hangar_tests::test]
async fn a_reload_of_all_inspects_several_at_the_same_time() -> Result<()> {
    let server = gated().await?;
    let mut gates = Vec::new();
    let mut events = Vec::new();
    for name in ["a", "b", "c"] {
        let path = server.fixtures.scripted(name, &Script::gated())?;
        server.client.load(name).spec(spec(&path)).wait().await?;
        gates.push(Gate::new(&path, "ready")?);
        events.push(Events::new(&path)?);
    }
    let request = LoadModelRequest {
        target: Some(Target::All(true)),
        force_reload: true,
        wait: true,
        ..LoadModelRequest::default()
    };
    let stubs = server.stubs.clone();
    let reload = Background::start(async move { stubs.load(request).await });
    for events in events.iter_mut().take(LIMITS.0) {
        started(events).await?;
    }
    gates.iter().try_for_each(Gate::open)?;
    let loads = reload.end().await??.loads;
    let order: Vec<_> = loads.iter().map(|load| load.model_id.as_str()).collect();
    assert_eq!(order, ["a", "b", "c"]);
    for load in &loads {
        assert!(load.error.is_none() && !load.already_loaded, "{load:?}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_reload_waits_for_its_turn_no_longer_than_it_may_take() -> Result<()> {
    let server = gated().await?;
    let (gate, held) = hold_all(&server).await?;
    let before = server.worker().await?;
    let late = server.client.load("m").force_reload();
    let late = late.timeout(Duration::from_secs(1)).wait().await;
    let late = refusal(late, Code::DeadlineExceeded, ErrorReason::LoadTimeout);
    assert!(late.message().contains("serves on"), "{late}");
    assert_eq!(server.worker().await?, before);
    gate.open()?;
    for held in held {
        held.end().await??;
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_reload_that_finds_too_many_waiting_is_refused_for_now() -> Result<()> {
    let server = gated().await?;
    let (gate, held) = hold_all(&server).await?;
    let request = LoadModelRequest {
        target: Some(Target::ModelId("m".to_owned())),
        force_reload: true,
        ..LoadModelRequest::default()
    };
    let reload = || server.stubs.load(request.clone());
    let mut waiting: FuturesUnordered<_> = (0..=LIMITS.1).map(|_| reload()).collect();
    let first = timeout(DEADLINE, waiting.next()).await?;
    let refused = refusal(
        first.context("an answer")?,
        Code::ResourceExhausted,
        ErrorReason::QueueFull,
    );
    assert!(refused.details().retry_after.is_some(), "{refused}");
    gate.open()?;
    while let Some(reload) = waiting.next().await {
        reload?;
    }
    for held in held {
        held.end().await??;
    }
    Ok(())
}
