//! Time and room for models that a request loads.

use std::time::Duration;

use anyhow::Result;
use hangar_client::{
    convert::to_proto_duration,
    v1::{ErrorReason, MemoryHint, ModelSpec, ModelState, SuspendReason},
};
use hangar_tests::{
    background::Background,
    fixtures::Fixtures,
    refusals::refusal,
    scripted::{Gate, LoadScript, Script},
    server::{TestServer, answer},
    time_enough::with_time_enough,
};
use tonic::Code;

/// A server with the model "m", which is loaded on demand, is not loaded, and waits at a gate in its load.
async fn gated() -> Result<(TestServer, Gate)> {
    let server = TestServer::scripted().checked().start().await?;
    let (path, spec) = server.script("m", &Script::gated())?;
    let spec = ModelSpec {
        load_on_demand: true,
        ..spec
    };
    server.load("m", spec).await?;
    server.client.unload("m").send().await?;
    Ok((server, Gate::new(&path, "load")?))
}

#[hangar_tests::test]
async fn a_request_waits_no_longer_than_its_deadline_and_the_load_goes_on() -> Result<()> {
    let (server, gate) = gated().await?;
    let mut watch = server.watch().await?;
    with_time_enough(Duration::from_millis(100), async |limit| {
        let hurried = server.client.generate("m").prompt("x").max_tokens(1);
        let refused = hurried.timeout(limit).text().await;
        refusal(
            refused,
            Code::DeadlineExceeded,
            ErrorReason::DeadlineExceeded,
        );
        // Else it was over before the load had begun.
        let state = server.stubs.info("m").await?.status.unwrap_or_default();
        Ok((state.state() != ModelState::Unloaded).then_some(()))
    })
    .await?;
    watch.until("m", ModelState::Loading).await?;
    gate.open()?;
    watch.until("m", ModelState::Ready).await?;
    server.answer("m").await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_caller_that_goes_away_leaves_the_load_to_the_others() -> Result<()> {
    let (server, gate) = gated().await?;
    let mut watch = server.watch().await?;
    let client = server.connect().await?;
    let lost = Background::start(async move { answer(&client, "m").await });
    watch.until("m", ModelState::Loading).await?;
    let client = server.client.clone();
    let other = Background::start(async move { answer(&client, "m").await });
    drop(lost);
    gate.open()?;
    other.end().await??;
    assert_eq!(server.stubs.info("m").await?.recent_loads.len(), 2);
    Ok(())
}

#[hangar_tests::test]
async fn an_unload_ends_what_waits_for_a_load() -> Result<()> {
    let (server, _gate) = gated().await?;
    let mut watch = server.watch().await?;
    let client = server.client.clone();
    let waits = Background::start(async move { answer(&client, "m").await });
    watch.until("m", ModelState::Loading).await?;
    server.client.unload("m").send().await?;
    refusal(
        waits.end().await?,
        Code::Aborted,
        ErrorReason::LoadCancelled,
    );
    Ok(())
}

/// There is room for one of two models, and requests ask for both in turn.
#[hangar_tests::test]
async fn models_on_demand_evict_each_other() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .argument("--memory-limit")
        .argument((300_u64 << 20).to_string());
    let server = options.start().await?;
    let script = Script {
        load: LoadScript {
            memory_bytes: 200 << 20,
            ..LoadScript::default()
        },
        ..Script::default()
    };
    for model in ["a", "b"] {
        let (_, spec) = server.script(model, &script)?;
        let spec = ModelSpec {
            load_on_demand: true,
            memory_hint: Some(MemoryHint {
                host_bytes: 200 << 20,
                ..MemoryHint::default()
            }),
            idle_timeout: Some(to_proto_duration(Duration::from_secs(3600))),
            ..spec
        };
        server.load(model, spec).await?;
    }
    let mut watch = server.watch().await?;
    for (model, other) in [("a", "b"), ("b", "a"), ("a", "b")] {
        server.answer(model).await?;
        let status = watch.until(other, ModelState::Unloaded).await?;
        assert_eq!(status.suspend_reason(), SuspendReason::Evicted);
        assert!(server.stubs.is_desired(other).await?);
        watch.until(model, ModelState::Ready).await?;
    }
    Ok(())
}
