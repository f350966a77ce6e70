//! UnloadModel of all models.

use anyhow::{Context, Result};
use hangar_client::v1::{
    ErrorReason, ModelSpec, ModelState, Session, UnloadModelRequest, UnloadModelResponse,
    unload_model_request::Target,
};
use hangar_tests::{
    fixtures::Fixtures, processes, refusals::refusal, scripted::Script, server::TestServer,
    stubs::load_for,
};
use tonic::Code;
use tonic_types::StatusExt;

use super::{assert_failed, state};

fn all(force: bool) -> UnloadModelRequest {
    UnloadModelRequest {
        target: Some(Target::All(true)),
        force,
        ..UnloadModelRequest::default()
    }
}

fn ids(answer: &UnloadModelResponse) -> Vec<&str> {
    let unloads = answer.unloads.iter();
    unloads.map(|unload| unload.model_id.as_str()).collect()
}

/// A server with "held", "plain" and "required", which are loaded as they are named.
async fn server() -> Result<(TestServer, Session)> {
    let server = TestServer::scripted().checked().start().await?;
    for (model, required) in [("plain", false), ("required", true)] {
        let (_, spec) = server.script(model, &Script::default())?;
        server.load(model, ModelSpec { required, ..spec }).await?;
    }
    let session = server.stubs.create_session(None).await?;
    let (_, spec) = server.script("held", &Script::default())?;
    server.stubs.load(load_for(&session, "held", spec)).await?;
    Ok((server, session))
}

#[hangar_tests::test]
async fn unload_all_keeps_required_and_held_models() -> Result<()> {
    let (server, session) = server().await?;
    let answer = server.stubs.unload(all(false)).await?;
    assert_eq!(ids(&answer), ["held", "plain"]);
    let error = answer.unloads[0].error.as_ref();
    let status = assert_failed(error, Code::FailedPrecondition, ErrorReason::ModelHeld);
    let info = status.get_details_error_info().context("a reason")?;
    assert_eq!(info.metadata["holders"], session.holder);
    assert!(!answer.unloads[0].was_loaded);
    assert!(answer.unloads[1].was_loaded && answer.unloads[1].error.is_none());
    assert_eq!(answer.models_remaining, ["held", "required"]);
    assert_eq!(state(&server, "held").await?, ModelState::Ready);
    assert_eq!(state(&server, "required").await?, ModelState::Ready);
    assert!(!server.stubs.is_desired("plain").await?);

    let refused = server.client.unload("required").send().await;
    let refused = refusal(
        refused,
        Code::FailedPrecondition,
        ErrorReason::ModelRequired,
    );
    assert_eq!(refused.details().metadata["model_id"], "required");
    Ok(())
}

#[hangar_tests::test]
async fn a_session_unloads_what_it_alone_holds() -> Result<()> {
    let (server, Session { session_id, .. }) = server().await?;
    let request = UnloadModelRequest {
        session_id,
        ..all(false)
    };
    let answer = server.stubs.unload(request).await?;
    assert_eq!(ids(&answer), ["held", "plain"]);
    assert!(answer.unloads.iter().all(|unload| unload.error.is_none()));
    assert_eq!(answer.models_remaining, ["required"]);
    Ok(())
}

#[hangar_tests::test]
async fn unload_all_with_force_leaves_no_model() -> Result<()> {
    let (server, session) = server().await?;
    let answer = server.stubs.unload(all(true)).await?;
    assert_eq!(ids(&answer), ["held", "plain", "required"]);
    assert!(
        answer
            .unloads
            .iter()
            .all(|unload| unload.was_loaded && unload.error.is_none())
    );
    assert!(answer.models_remaining.is_empty());
    assert!(processes::children(server.pid())?.is_empty());
    assert!(
        server
            .stubs
            .session(&session.session_id)
            .await?
            .model_ids
            .is_empty()
    );
    assert!(!server.stubs.is_desired("required").await?);
    Ok(())
}

/// Neither what runs nor what would be tried again comes back with the next start.
#[hangar_tests::test]
async fn unload_all_makes_nothing_desired() -> Result<()> {
    let data = tempfile::tempdir()?;
    let fixtures = Fixtures::new()?;
    let options = TestServer::real().fixtures(&fixtures).data_in(data.path());
    let server = options.start().await?;
    server.llama("fine").await?;
    let failed = server.load("failed", server.broken_spec()?).await;
    refusal(failed, Code::FailedPrecondition, ErrorReason::ModelUnusable);
    assert!(server.stubs.is_desired("failed").await?);
    server.stubs.unload(all(false)).await?;
    for model in ["fine", "failed"] {
        assert!(!server.stubs.is_desired(model).await?, "{model}");
    }
    let server = server.killed_and_started(&options).await?;
    for model in ["fine", "failed"] {
        let info = server.stubs.info(model).await?;
        let status = info.status.unwrap_or_default();
        assert_eq!(status.state(), ModelState::Unloaded, "{model}");
        assert_eq!(status.load_id, "", "{model}");
    }
    Ok(())
}
