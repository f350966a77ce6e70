//! What a load that failed leaves behind, and that it says so.

use std::time::Duration;

use anyhow::Result;
use hangar_client::{
    Refusal,
    v1::{DesiredState, ErrorReason, ModelState},
};
use hangar_tests::{
    refusals::refusal,
    scripted::{LoadKind, Script},
    server::TestServer,
};
use tonic::Code;

fn failing() -> Script {
    Script::loading(LoadKind::Fail {
        reason: "MODEL_UNUSABLE".into(),
        message: "The weights are missing.".into(),
    })
}

fn desired(refused: &Refusal) -> Option<&str> {
    let metadata = &refused.details().metadata;
    metadata.get("desired_state").map(String::as_str)
}

#[hangar_tests::test]
async fn a_load_that_failed_says_that_the_model_stays_and_how_to_be_rid_of_it() -> Result<()> {
    let server = TestServer::scripted().script(&failing()).start().await?;
    let refused = server.load_m().wait().await;
    let refused = refusal(
        refused,
        Code::FailedPrecondition,
        ErrorReason::ModelUnusable,
    );
    let message = refused.message();
    assert!(
        message.starts_with("The weights are missing. "),
        "{message}"
    );
    for word in ["stays registered", "UnloadModel", "DeleteModel", "starts"] {
        assert!(message.contains(word), "{word}: {message}");
    }
    assert_eq!(desired(&refused), Some("LOADED"));
    let info = server.info().await?;
    assert_eq!(info.desired_state(), DesiredState::Loaded);
    let status = info.status.unwrap_or_default();
    assert_eq!(status.state(), ModelState::Failed);
    assert_eq!(status.message, "The weights are missing.");

    // What it says is so.
    server.client.unload("m").send().await?;
    assert_eq!(server.info().await?.desired_state(), DesiredState::Unloaded);
    server.client.delete_model("m").send().await?;
    let unknown = server.client.info().model("m").send().await;
    refusal(unknown, Code::NotFound, ErrorReason::ModelNotFound);
    Ok(())
}

#[hangar_tests::test]
async fn a_sessions_load_that_failed_is_not_tried_again() -> Result<()> {
    let server = TestServer::scripted().script(&failing()).start().await?;
    let session = server.client.open_session(Duration::from_secs(60)).await?;
    let refused = server.load_m().session(session.id()).wait().await;
    let refused = refusal(
        refused,
        Code::FailedPrecondition,
        ErrorReason::ModelUnusable,
    );
    assert!(refused.message().contains("stays registered"), "{refused}");
    assert!(!refused.message().contains("UnloadModel"), "{refused}");
    assert_eq!(desired(&refused), Some("UNLOADED"));
    Ok(())
}
