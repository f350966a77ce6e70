//! Calls with a `request_id`: safe to repeat.

use anyhow::Result;
use hangar_client::v1::{
    ErrorReason,
    ModelState::{Loading, Ready, Unloaded},
};
use hangar_tests::{
    background::Background,
    lab::Lab,
    refusals::refusal,
    scripted::{LoadKind, Script},
};
use tonic::Code;

#[tokio::test]
async fn a_repeated_load_gets_the_same_answer_and_does_nothing() -> Result<()> {
    let lab = Lab::start(&Script::default()).await?;
    let first = lab.load().request_id("a").wait().await?;
    lab.client.unload("m").send().await?;
    assert_eq!(lab.load().request_id("a").wait().await?, first);
    let status = lab.info().await?.status.unwrap_or_default();
    assert_eq!(status.state(), Unloaded);
    assert_ne!(
        lab.load().request_id("b").wait().await?.load_id,
        first.load_id
    );
    Ok(())
}

#[tokio::test]
async fn a_repeated_unload_gets_the_same_answer_and_does_nothing() -> Result<()> {
    let lab = Lab::start(&Script::default()).await?;
    lab.ready().await?;
    let first = lab.client.unload("m").request_id("a").send().await?;
    assert!(first.was_loaded);
    lab.ready().await?;
    let again = lab.client.unload("m").request_id("a").send().await?;
    assert_eq!(again, first);
    let status = lab.info().await?.status.unwrap_or_default();
    assert_eq!(status.state(), Ready);
    Ok(())
}

#[tokio::test]
async fn a_request_id_belongs_to_one_body() -> Result<()> {
    let lab = Lab::start(&Script::default()).await?;
    lab.load().request_id("a").wait().await?;
    let other = lab.client.load("m").request_id("a").wait().await;
    refusal(other, Code::InvalidArgument, ErrorReason::RequestIdReused);
    // The methods have ids of their own.
    lab.client.unload("m").request_id("a").send().await?;
    let other = lab.client.unload("m").request_id("a").force().send().await;
    refusal(other, Code::InvalidArgument, ErrorReason::RequestIdReused);
    Ok(())
}

#[tokio::test]
async fn a_duplicate_joins_the_call_that_is_under_way() -> Result<()> {
    let lab = Lab::start(&Script::gated()).await?;
    let first = lab.load().request_id("a");
    let mut held = lab.hold(Loading).await?;
    let waiting = [first.clone(), first.clone(), first].map(|load| Background::start(load.wait()));
    held.gate.open()?;
    held.transitions.until(Ready).await?;
    let mut answers = Vec::new();
    for call in waiting {
        answers.push(call.end().await??);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    let unloads = [(); 3].map(|()| lab.client.unload("m").request_id("u").send());
    let unloads = futures::future::try_join_all(unloads).await?;
    assert!(unloads.iter().all(|unload| *unload == unloads[0]));
    assert!(unloads[0].was_loaded);
    Ok(())
}

#[tokio::test]
async fn a_failed_load_can_be_tried_again_with_the_same_request_id() -> Result<()> {
    let lab = Lab::start(&Script::loading(LoadKind::Error)).await?;
    assert!(lab.load().request_id("a").wait().await.is_err());
    Script::default().write(&lab.directory)?;
    lab.load().request_id("a").wait().await?;
    Ok(())
}
