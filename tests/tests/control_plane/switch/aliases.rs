//! What a switch makes of an alias, and where an alias may stand.

use anyhow::Result;
use hangar_client::v1::{LoadModelRequest, ModelState, SwitchOutcome, SwitchStrategy};
use hangar_tests::{
    fleet_watch::FleetEvent,
    server::TestServer,
    stubs::{load_again, switch},
};

use super::{ALIAS, last, one_and_two, target};

#[hangar_tests::test]
async fn the_first_switch_makes_the_alias() -> Result<()> {
    let server = TestServer::real().start().await?;
    server.llama("one").await?;
    server.client.unload("one").send().await?;
    let mut watch = server.watch().await?;
    let request = switch(ALIAS, "one", SwitchStrategy::Unspecified);
    let begun = server.stubs.switch(request).await?;
    assert_eq!(begun.strategy(), SwitchStrategy::LoadFirst);
    assert!(begun.estimated_time.is_some());
    let events = watch.events_to_end_of(&begun.switch_id).await?;

    let Some(FleetEvent::Switch(began)) = events.first() else {
        anyhow::bail!("the switch does not come first: {events:?}");
    };
    assert_eq!(began.outcome(), SwitchOutcome::Unspecified);
    assert_eq!(
        (began.alias.as_str(), began.to_model_id.as_str()),
        (ALIAS, "one")
    );
    assert_eq!(began.from_model_id, "");
    assert!(began.start_time.is_some() && began.end_time.is_none());
    let place = |wanted: &FleetEvent| events.iter().position(|event| event == wanted);
    let ready = place(&FleetEvent::State("one".into(), ModelState::Ready));
    let moved = place(&FleetEvent::Aliases("one".into(), vec![ALIAS.into()]));
    assert!(ready.is_some() && ready < moved, "{events:?}");
    assert_eq!(moved, Some(events.len() - 2), "the end comes right behind");

    let Some(FleetEvent::Switch(ended)) = events.last() else {
        anyhow::bail!("the switch does not come last: {events:?}");
    };
    assert_eq!(ended.outcome(), SwitchOutcome::Succeeded);
    assert_eq!((ended.reason.as_str(), ended.message.as_str()), ("", ""));
    assert!(ended.end_time.is_some());
    assert_eq!(last(&server).await?, **ended);
    assert_eq!(server.stubs.info("one").await?.aliases, [ALIAS]);
    assert!(server.stubs.is_desired("one").await?);
    assert!(server.stubs.info("one").await?.holders.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn an_alias_stands_wherever_an_id_may() -> Result<()> {
    let server = TestServer::real().start().await?;
    let mut watch = one_and_two(&server).await?;
    assert_eq!(server.answer(ALIAS).await?, server.answer("one").await?);
    let tokens = server.client.tokenize(ALIAS, "Hello").send().await?;
    assert_eq!(tokens, server.client.tokenize("one", "Hello").send().await?);
    let text = server.client.detokenize(ALIAS, tokens).send().await?;
    assert_eq!(text, "Hello");
    assert_eq!(target(&server).await?, "one");
    let loaded = server.client.load(ALIAS).wait().await?;
    assert!(loaded.already_loaded);
    assert_eq!(loaded.model_id, "one");

    let session = server.stubs.create_session(None).await?;
    let held = LoadModelRequest {
        session_id: session.session_id.clone(),
        ..load_again(ALIAS)
    };
    server.stubs.load(held).await?;
    let found = server.stubs.session(&session.session_id).await?;
    assert_eq!(found.model_ids, ["one"]);
    server.stubs.close(&session.session_id).await?;

    let unloaded = server.client.unload(ALIAS).send().await?;
    assert_eq!(
        (unloaded.model_id.as_str(), unloaded.was_loaded),
        ("one", true)
    );
    watch.until("one", ModelState::Unloaded).await?;
    assert!(!server.stubs.is_desired("one").await?);
    server.client.load(ALIAS).wait().await?;
    assert_eq!(server.answer(ALIAS).await?, server.answer("one").await?);
    Ok(())
}

#[hangar_tests::test]
async fn an_alias_may_name_the_new_model() -> Result<()> {
    let server = TestServer::real().start().await?;
    let mut watch = one_and_two(&server).await?;
    let request = switch("other", ALIAS, SwitchStrategy::LoadFirst);
    let begun = server.stubs.switch(request).await?;
    let ended = watch.ended(&begun.switch_id).await?;
    assert_eq!(ended.to_model_id, "one");
    assert_eq!(server.stubs.info("one").await?.aliases, [ALIAS, "other"]);
    let aliases: Vec<_> = server.stubs.switches().await?;
    let aliases: Vec<_> = aliases.iter().map(|switch| switch.alias.as_str()).collect();
    assert_eq!(aliases, [ALIAS, "other"]);
    Ok(())
}

#[hangar_tests::test]
async fn a_switch_to_where_the_alias_points_changes_nothing() -> Result<()> {
    let server = TestServer::real().start().await?;
    let mut watch = one_and_two(&server).await?;
    let before = server.stubs.info("one").await?.status.unwrap_or_default();
    for strategy in [SwitchStrategy::LoadFirst, SwitchStrategy::UnloadFirst] {
        let begun = server.stubs.switch(switch(ALIAS, "one", strategy)).await?;
        let ended = watch.ended(&begun.switch_id).await?;
        assert_eq!(ended.outcome(), SwitchOutcome::Succeeded);
    }
    let after = server.stubs.info("one").await?.status.unwrap_or_default();
    assert_eq!(before.generation, after.generation);
    assert_eq!(before.worker_pid, after.worker_pid);
    assert_eq!(target(&server).await?, "one");
    Ok(())
}
