//! New models that do not become READY.

use std::{fs, time::Duration};

use anyhow::Result;
use hangar_client::{
    convert::to_proto_duration,
    v1::{
        ErrorReason, ModelSpec, ModelState, RestartMode, SwitchModelRequest, SwitchOutcome,
        SwitchStrategy,
    },
};
use hangar_tests::{
    fleet_watch::{FleetEvent, FleetWatch},
    refusals::{assert_is_for_people, refusal},
    scripted::{Gate, Script},
    server::{TestServer, restarting},
    stubs::switch,
};
use tonic::Code;

use super::{ALIAS, carried_out, last, one_and_two, point, state, target};

/// A switch to a model that the engine refuses.
fn to_broken(server: &TestServer, strategy: SwitchStrategy) -> Result<SwitchModelRequest> {
    Ok(SwitchModelRequest {
        spec: Some(server.broken_spec()?),
        ..switch(ALIAS, "broken", strategy)
    })
}

/// Carries out a switch that rolls back, and gives what happened on the way.
async fn rolled_back(
    server: &TestServer,
    watch: &mut FleetWatch,
    request: SwitchModelRequest,
    reason: &str,
) -> Result<Vec<FleetEvent>> {
    let begun = server.stubs.switch(request).await?;
    let events = watch.events_to_end_of(&begun.switch_id).await?;
    let ended = last(server).await?;
    assert_eq!(
        events.last(),
        Some(&FleetEvent::Switch(Box::new(ended.clone())))
    );
    assert_eq!(ended.outcome(), SwitchOutcome::RolledBack);
    assert_eq!(ended.reason, reason, "{ended:?}");
    assert_is_for_people(&ended.message);
    assert!(ended.end_time.is_some());
    Ok(events)
}

#[hangar_tests::test]
async fn the_old_model_serves_on_when_the_new_one_is_broken() -> Result<()> {
    let server = TestServer::real().start().await?;
    let mut watch = one_and_two(&server).await?;
    let answer = server.answer("one").await?;
    let request = to_broken(&server, SwitchStrategy::LoadFirst)?;
    let events = rolled_back(&server, &mut watch, request.clone(), "MODEL_UNUSABLE").await?;
    let moves = events.iter().any(|event| match event {
        FleetEvent::State(model, _) => model == "one",
        FleetEvent::Aliases(..) => true,
        _ => false,
    });
    assert!(!moves, "{events:?}");
    assert_eq!(target(&server).await?, "one");
    assert_eq!(server.answer(ALIAS).await?, answer);
    assert_eq!(state(&server, "broken").await?, ModelState::Failed);
    assert!(server.stubs.is_desired("one").await?);
    let info = server.stubs.info("broken").await?;
    assert!(info.holders.is_empty() && info.aliases.is_empty());
    assert!(!server.stubs.is_desired("broken").await?);
    // The alias is free again, and the same switch ends in the same way.
    rolled_back(&server, &mut watch, request, "MODEL_UNUSABLE").await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_first_switch_that_fails_leaves_no_alias() -> Result<()> {
    let server = TestServer::real().start().await?;
    let mut watch = server.watch().await?;
    let request = to_broken(&server, SwitchStrategy::Auto)?;
    rolled_back(&server, &mut watch, request, "MODEL_UNUSABLE").await?;
    let refused = server.client.generate(ALIAS).prompt("x").text().await;
    refusal(refused, Code::NotFound, ErrorReason::ModelNotFound);
    Ok(())
}

#[hangar_tests::test]
async fn unload_first_frees_the_memory_before_it_loads() -> Result<()> {
    let server = TestServer::real().start().await?;
    let mut watch = one_and_two(&server).await?;
    let request = switch(ALIAS, "two", SwitchStrategy::UnloadFirst);
    let begun = server.stubs.switch(request).await?;
    assert_eq!(begun.strategy(), SwitchStrategy::UnloadFirst);
    let events = watch.events_to_end_of(&begun.switch_id).await?;
    let place = |model: &str, state| {
        let wanted = FleetEvent::State(model.into(), state);
        events.iter().position(|event| *event == wanted)
    };
    let gone = place("one", ModelState::Unloaded);
    assert!(
        gone.is_some() && gone < place("two", ModelState::Pending),
        "{events:?}"
    );
    assert_eq!(last(&server).await?.outcome(), SwitchOutcome::Succeeded);
    assert_eq!(target(&server).await?, "two");
    server.answer(ALIAS).await?;
    assert_eq!(state(&server, "one").await?, ModelState::Unloaded);
    assert!(!server.stubs.is_desired("one").await?);
    Ok(())
}

#[hangar_tests::test]
async fn the_old_model_is_brought_back_when_the_new_one_is_broken() -> Result<()> {
    let server = TestServer::real().start().await?;
    let mut watch = one_and_two(&server).await?;
    let answer = server.answer("one").await?;
    let request = to_broken(&server, SwitchStrategy::UnloadFirst)?;
    let events = rolled_back(&server, &mut watch, request, "MODEL_UNUSABLE").await?;
    let states: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            FleetEvent::State(model, state) if model == "one" => Some(*state),
            _ => None,
        })
        .collect();
    assert!(states.contains(&ModelState::Unloaded), "{states:?}");
    assert_eq!(states.last(), Some(&ModelState::Ready));
    assert_eq!(server.answer(ALIAS).await?, answer);
    assert!(server.stubs.is_desired("one").await?);
    assert!(server.stubs.info("one").await?.holders.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn a_rollback_that_fails_is_reported() -> Result<()> {
    let server = TestServer::real().start().await?;
    let mut watch = one_and_two(&server).await?;
    let request = to_broken(&server, SwitchStrategy::UnloadFirst)?;
    fs::remove_dir_all(server.fixtures.llama()?)?;
    let ended = carried_out(&server, &mut watch, request).await?;
    assert_eq!(ended.outcome(), SwitchOutcome::RollbackFailed);
    assert_eq!(ended.reason, "MODEL_UNUSABLE");
    assert!(
        ended.message.contains("could not be brought back"),
        "{}",
        ended.message
    );
    assert_is_for_people(&ended.message);
    assert_eq!(last(&server).await?, ended);
    assert_eq!(target(&server).await?, "one");
    assert_eq!(state(&server, "one").await?, ModelState::Failed);
    assert!(server.stubs.is_desired("one").await?);
    point(&server, &mut watch, "two").await?;
    server.answer(ALIAS).await?;
    Ok(())
}

/// However little time the new one was given.
#[hangar_tests::test]
async fn the_old_model_has_its_own_time_to_come_back() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let (_, old) = server.script("old", &Script::default())?;
    server.load("old", old).await?;
    let mut watch = server.watch().await?;
    point(&server, &mut watch, "old").await?;
    let (path, slow) = server.script("slow", &Script::gated())?;
    let _gate = Gate::new(&path, "load")?;
    let request = SwitchModelRequest {
        spec: Some(slow),
        timeout: Some(to_proto_duration(Duration::from_millis(1))),
        ..switch(ALIAS, "slow", SwitchStrategy::UnloadFirst)
    };
    rolled_back(&server, &mut watch, request, "LOAD_TIMEOUT").await?;
    assert_eq!(state(&server, "old").await?, ModelState::Ready);
    Ok(())
}

/// A request that would load the old model on demand would take the room that it made.
#[hangar_tests::test]
async fn requests_get_a_retry_delay_while_the_alias_has_no_ready_model() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let (_, old) = server.script("old", &Script::default())?;
    let on_demand = ModelSpec {
        load_on_demand: true,
        ..old
    };
    server.load("old", on_demand).await?;
    let mut watch = server.watch().await?;
    point(&server, &mut watch, "old").await?;
    let (path, slow) = server.script("slow", &Script::gated())?;
    let gate = Gate::new(&path, "load")?;
    let request = SwitchModelRequest {
        spec: Some(slow),
        ..switch(ALIAS, "slow", SwitchStrategy::UnloadFirst)
    };
    let begun = server.stubs.switch(request).await?;
    watch.until("slow", ModelState::Loading).await?;
    for model in [ALIAS, "old"] {
        let answers = [
            server.answer(model).await.map(drop),
            server.client.tokenize(model, "x").send().await.map(drop),
        ];
        for answer in answers {
            let refused = refusal(answer, Code::Unavailable, ErrorReason::ModelLoading);
            assert_eq!(refused.details().metadata["model_id"], "slow");
            assert!(refused.details().retry_after.is_some());
        }
    }
    gate.open()?;
    let ended = watch.ended(&begun.switch_id).await?;
    assert_eq!(ended.outcome(), SwitchOutcome::Succeeded);
    assert_eq!(watch.state("old"), ModelState::Unloaded);
    server.answer(ALIAS).await?;
    Ok(())
}

#[hangar_tests::test]
async fn unloading_the_new_model_by_force_ends_the_switch() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let (_, old) = server.script("old", &Script::default())?;
    server.load("old", old).await?;
    let mut watch = server.watch().await?;
    point(&server, &mut watch, "old").await?;
    let (path, slow) = server.script("slow", &Script::gated())?;
    let _gate = Gate::new(&path, "load")?;
    let request = SwitchModelRequest {
        spec: Some(slow),
        ..switch(ALIAS, "slow", SwitchStrategy::LoadFirst)
    };
    let begun = server.stubs.switch(request).await?;
    watch.until("slow", ModelState::Loading).await?;
    server.client.unload("slow").force().send().await?;
    let ended = watch.ended(&begun.switch_id).await?;
    assert_eq!(ended.outcome(), SwitchOutcome::RolledBack);
    assert_eq!(ended.reason, "LOAD_CANCELLED");
    assert_eq!(state(&server, "old").await?, ModelState::Ready);
    Ok(())
}

/// Attempts count as ever: the switch waits for the last of them.
#[hangar_tests::test]
async fn a_new_model_is_tried_as_often_as_its_policy_says() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let script = Script {
        die_on_attempts: vec![1, 2],
        ..Script::default()
    };
    let (path, _) = server.script("shaky", &script)?;
    let mode = RestartMode::OnFailure;
    let request = SwitchModelRequest {
        spec: Some(restarting(&path, mode, 3)),
        ..switch(ALIAS, "shaky", SwitchStrategy::LoadFirst)
    };
    let mut watch = server.watch().await?;
    let ended = carried_out(&server, &mut watch, request).await?;
    assert_eq!(ended.outcome(), SwitchOutcome::Succeeded, "{ended:?}");
    assert_eq!(target(&server).await?, "shaky");
    Ok(())
}
