//! Unloading what sessions hold.

use anyhow::Result;
use hangar_client::v1::{ErrorReason, ModelState, Session, UnloadModelRequest};
use hangar_tests::{refusals::refusal, scripted::Script, server::TestServer, stubs::unload};
use tonic::Code;

use super::{holder, holders, load, session};

/// Unloads a model in the name of a session.
fn unload_for(session: &Session, model_id: &str) -> UnloadModelRequest {
    UnloadModelRequest {
        session_id: session.session_id.clone(),
        ..unload(model_id)
    }
}

/// Makes sure that an unload is refused because of these holders.
async fn assert_held(server: &TestServer, request: UnloadModelRequest, by: &[String]) {
    let refused = server.stubs.unload(request).await;
    let refused = refusal(refused, Code::FailedPrecondition, ErrorReason::ModelHeld);
    let details = refused.details();
    assert_eq!(details.metadata["model_id"], "m");
    assert_eq!(details.metadata["holders"], by.join(","));
    assert_eq!(details.preconditions.len(), 1);
    assert_eq!(details.preconditions[0].subject, "m");
}

#[hangar_tests::test]
async fn a_held_model_is_unloaded_by_force_only() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let (_, spec) = server.script("m", &Script::default())?;
    let (one, two) = (session(&server).await?, session(&server).await?);
    load(&server, &one, "m", spec.clone()).await?;
    load(&server, &two, "m", spec).await?;
    assert_held(&server, unload("m"), &holders(&[&one, &two])).await;
    assert_held(&server, unload_for(&one, "m"), &[holder(&two)]).await;
    let mut watch = server.watch().await?;
    assert_eq!(watch.state("m"), ModelState::Ready);
    let answer = server.client.unload("m").force().send().await?;
    assert!(answer.was_loaded);
    watch.until("m", ModelState::Unloaded).await?;
    for session in [one, two] {
        let found = server.stubs.session(&session.session_id).await?;
        assert!(found.model_ids.is_empty());
        assert!(server.stubs.close(&session.session_id).await?.is_empty());
    }
    Ok(())
}

#[hangar_tests::test]
async fn the_sole_holder_unloads_its_model() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let (_, spec) = server.script("m", &Script::default())?;
    let (one, two) = (session(&server).await?, session(&server).await?);
    load(&server, &one, "m", spec).await?;
    assert_held(&server, unload_for(&two, "m"), &[holder(&one)]).await;
    let unknown = UnloadModelRequest {
        session_id: "no-such-session".into(),
        ..unload("m")
    };
    let refused = server.stubs.unload(unknown).await;
    refusal(refused, Code::NotFound, ErrorReason::SessionNotFound);
    let answer = server.stubs.unload(unload_for(&one, "m")).await?;
    assert!(answer.unloads[0].was_loaded);
    assert!(answer.models_remaining.is_empty());
    let found = server.stubs.session(&one.session_id).await?;
    assert!(found.model_ids.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn a_refused_unload_changes_nothing_that_was_asked_for() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let (_, spec) = server.script("m", &Script::default())?;
    server.load("m", spec.clone()).await?;
    let held = session(&server).await?;
    load(&server, &held, "m", spec).await?;
    assert_held(&server, unload("m"), &[holder(&held)]).await;
    assert!(server.stubs.is_desired("m").await?);
    assert!(server.stubs.close(&held.session_id).await?.is_empty());
    Ok(())
}
