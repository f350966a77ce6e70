//! Calls with a `request_id`: safe to repeat.

use anyhow::Result;
use hangar_client::v1::{
    ErrorReason, LoadModelRequest,
    ModelState::{Loading, Ready, Unloaded},
    SwitchModelRequest, SwitchStrategy, load_model_request,
};
use hangar_tests::{
    background::Background,
    refusals::refusal,
    scripted::{LoadKind, Script},
    server::TestServer,
    stubs::switch,
};
use tonic::Code;

#[hangar_tests::test]
async fn a_repeated_load_gets_the_same_answer_and_does_nothing() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    let first = server.load_m().request_id("a").wait().await?;
    server.client.unload("m").send().await?;
    assert_eq!(server.load_m().request_id("a").wait().await?, first);
    let status = server.info().await?.status.unwrap_or_default();
    assert_eq!(status.state(), Unloaded);
    assert_ne!(
        server.load_m().request_id("b").wait().await?.load_id,
        first.load_id
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_repeated_unload_gets_the_same_answer_and_does_nothing() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    server.ready().await?;
    let first = server.client.unload("m").request_id("a").send().await?;
    assert!(first.was_loaded);
    server.ready().await?;
    let again = server.client.unload("m").request_id("a").send().await?;
    assert_eq!(again, first);
    let status = server.info().await?.status.unwrap_or_default();
    assert_eq!(status.state(), Ready);
    Ok(())
}

#[hangar_tests::test]
async fn a_request_id_belongs_to_one_body() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    server.load_m().request_id("a").wait().await?;
    let other = server.client.load("m").request_id("a").wait().await;
    refusal(other, Code::InvalidArgument, ErrorReason::RequestIdReused);
    // The methods have ids of their own.
    server.client.unload("m").request_id("a").send().await?;
    let other = server
        .client
        .unload("m")
        .request_id("a")
        .force()
        .send()
        .await;
    refusal(other, Code::InvalidArgument, ErrorReason::RequestIdReused);
    Ok(())
}

#[hangar_tests::test]
async fn a_check_takes_no_request_id_from_the_call_that_follows_it() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    for validate_only in [true, true, false] {
        let load = LoadModelRequest {
            target: Some(load_model_request::Target::ModelId("m".into())),
            spec: Some(server.spec()),
            request_id: "a".into(),
            validate_only,
            ..LoadModelRequest::default()
        };
        let loads = server.stubs.load(load).await?.loads;
        assert_eq!(loads.is_empty(), validate_only);
    }
    server.ready().await?;
    for validate_only in [true, true, false] {
        let switch = SwitchModelRequest {
            request_id: "a".into(),
            validate_only,
            ..switch("alias", "m", SwitchStrategy::Auto)
        };
        let switched = server.stubs.switch(switch).await?;
        assert_eq!(switched.switch_id.is_empty(), validate_only);
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_duplicate_joins_the_call_that_is_under_way() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .start()
        .await?;
    let first = server.load_m().request_id("a");
    let mut held = server.hold(Loading).await?;
    let waiting = [first.clone(), first.clone(), first].map(|load| Background::start(load.wait()));
    held.gate.open()?;
    held.transitions.until(Ready).await?;
    let mut answers = Vec::new();
    for call in waiting {
        answers.push(call.end().await??);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    let unloads = [(); 3].map(|()| server.client.unload("m").request_id("u").send());
    let unloads = futures::future::try_join_all(unloads).await?;
    assert!(unloads.iter().all(|unload| *unload == unloads[0]));
    assert!(unloads[0].was_loaded);
    Ok(())
}

#[hangar_tests::test]
async fn a_failed_load_can_be_tried_again_with_the_same_request_id() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::loading(LoadKind::Error))
        .start()
        .await?;
    assert!(server.load_m().request_id("a").wait().await.is_err());
    Script::default().write(&server.directory)?;
    server.load_m().request_id("a").wait().await?;
    Ok(())
}
