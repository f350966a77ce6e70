//! Audio, which no model of this version takes.

use anyhow::Result;
use hangar_client::v1::ErrorReason;
use hangar_tests::{refusals::refusal, server::TestServer};
use tonic::Code;

use super::{Part, VisionServer, text};

#[hangar_tests::test]
async fn a_vision_model_refuses_audio() -> Result<()> {
    let server = TestServer::gemma().await?;
    let before = server.answer_to([text("Hello")]).await?.text;
    let refused = refusal(
        server
            .answer_to([text("Hello"), Part::Audio("RIFF".into())])
            .await,
        Code::FailedPrecondition,
        ErrorReason::UnsupportedByModel,
    );
    assert!(refused.message().contains("messages[0].parts[1].audio"));
    assert!(refused.message().contains("text and images"), "{refused:?}");
    assert_eq!(server.answer_to([text("Hello")]).await?.text, before);
    Ok(())
}
