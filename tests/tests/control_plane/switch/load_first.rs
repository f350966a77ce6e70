//! The old model serves until the new one is READY, and then goes.

use std::time::Duration;

use anyhow::Result;
use hangar_client::{
    GenerateEvent,
    convert::to_proto_duration,
    v1::{ErrorReason, ModelState, SwitchModelRequest, SwitchOutcome, SwitchStrategy},
};
use hangar_tests::{
    fixtures::Fixtures,
    fleet_watch::FleetEvent,
    refusals::refusal,
    scripted::{Gate, Script},
    server::{DEADLINE, NEVER, TestServer},
    stubs::switch,
};
use tokio::time::timeout;
use tonic::Code;

use super::{ALIAS, carried_out, last, one_and_two, point, target};

#[hangar_tests::test]
async fn the_old_model_goes_once_the_new_one_serves() -> Result<()> {
    let server = TestServer::real().start().await?;
    let mut watch = one_and_two(&server).await?;
    let request = switch(ALIAS, "two", SwitchStrategy::LoadFirst);
    let begun = server.stubs.switch(request).await?;
    let events = watch.events_to_end_of(&begun.switch_id).await?;
    let states_of_one = events
        .iter()
        .filter(|event| matches!(event, FleetEvent::State(model, _) if model == "one"));
    assert_eq!(states_of_one.count(), 0, "{events:?}");
    let tail = &events[events.len() - 4..];
    assert_eq!(tail[0], FleetEvent::State("two".into(), ModelState::Ready));
    assert_eq!(
        tail[1],
        FleetEvent::Aliases("two".into(), vec![ALIAS.into()])
    );
    assert_eq!(tail[2], FleetEvent::Aliases("one".into(), vec![]));
    for state in [
        ModelState::Draining,
        ModelState::Unloading,
        ModelState::Unloaded,
    ] {
        assert_eq!(watch.next().await?, FleetEvent::State("one".into(), state));
    }
    let ended = last(&server).await?;
    assert_eq!(ended.outcome(), SwitchOutcome::Succeeded);
    assert_eq!(ended.strategy(), SwitchStrategy::LoadFirst);
    assert_eq!(server.stubs.info("two").await?.aliases, [ALIAS]);
    assert!(server.stubs.info("one").await?.aliases.is_empty());
    assert!(server.stubs.is_desired("two").await?);
    assert!(!server.stubs.is_desired("one").await?);
    Ok(())
}

/// Not that of the server.
#[hangar_tests::test]
async fn the_old_models_requests_have_the_drain_timeout_of_the_switch() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .time("--drain-timeout", NEVER)
        .time("--shutdown-timeout", NEVER * 2);
    let server = options.start().await?;
    let (path, old) = server.script("old", &Script::gated())?;
    let (_, new) = server.script("new", &Script::default())?;
    let gate = Gate::new(&path, "token")?;
    server.load("old", old).await?;
    let mut watch = server.watch().await?;
    point(&server, &mut watch, "old").await?;
    let mut stream = server.client.generate(ALIAS).prompt("x").stream().await?;
    gate.step(1)?;
    let first = stream.next().await;
    assert!(
        matches!(first, Some(Ok(GenerateEvent::Chunk(_)))),
        "{first:?}"
    );
    let request = SwitchModelRequest {
        spec: Some(new),
        drain_timeout: Some(to_proto_duration(Duration::from_millis(50))),
        ..switch(ALIAS, "new", SwitchStrategy::LoadFirst)
    };
    let ended = carried_out(&server, &mut watch, request).await?;
    assert_eq!(ended.outcome(), SwitchOutcome::Succeeded);
    let cut = timeout(DEADLINE, stream.next()).await?;
    let cut = cut.unwrap_or_else(|| panic!("the stream ended without an error"));
    refusal(cut, Code::Unavailable, ErrorReason::ModelUnloaded);
    watch.until("old", ModelState::Unloaded).await?;
    assert_eq!(target(&server).await?, "new");
    Ok(())
}

#[hangar_tests::test]
async fn an_old_model_that_was_still_loading_goes_too() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let (path, old) = server.script("old", &Script::gated())?;
    let (_, new) = server.script("new", &Script::default())?;
    server.load("old", old).await?;
    let mut watch = server.watch().await?;
    point(&server, &mut watch, "old").await?;
    server.client.unload("old").send().await?;
    let _gate = Gate::new(&path, "load")?;
    server.client.load("old").send().await?;
    watch.until("old", ModelState::Unloaded).await?;
    watch.until("old", ModelState::Loading).await?;
    let request = SwitchModelRequest {
        spec: Some(new),
        ..switch(ALIAS, "new", SwitchStrategy::LoadFirst)
    };
    let ended = carried_out(&server, &mut watch, request).await?;
    assert_eq!(ended.outcome(), SwitchOutcome::Succeeded);
    watch.until("old", ModelState::Unloaded).await?;
    assert!(!server.stubs.is_desired("old").await?);
    Ok(())
}
