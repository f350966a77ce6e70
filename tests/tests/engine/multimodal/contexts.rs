//! Images and the model's context.

use anyhow::Result;
use hangar_client::v1::{ErrorReason, FinishReason};
use hangar_tests::{refusals::refusal, server::TestServer};
use tonic::Code;

use super::{VisionServer, picture, prompt_tokens, text};

#[hangar_tests::test]
async fn the_context_is_used_to_its_last_token_and_no_further() -> Result<()> {
    let server = TestServer::gemma().await?;
    let parts = [picture(1)?, picture(2)?, text("What?")];
    let prompt = prompt_tokens(&server.answer_to(parts.clone()).await?);
    let left = 256 - prompt;
    let ask = |tokens| {
        server
            .asking()
            .parts("user", parts.clone())
            .max_tokens(tokens)
    };
    let whole = ask(left).text().await?;
    assert_eq!(whole.text.len(), left as usize);
    assert_eq!(ask(0).text().await?.text, whole.text);
    assert_eq!(whole.done.finish_reason(), FinishReason::Length);
    let refused = refusal(
        ask(left + 1).text().await,
        Code::InvalidArgument,
        ErrorReason::ContextExceeded,
    );
    assert_eq!(refused.details().fields[0].subject, "max_tokens");
    Ok(())
}

#[hangar_tests::test]
async fn images_that_do_not_fit_are_refused_before_the_engine_sees_them() -> Result<()> {
    let server = TestServer::gemma_with(|spec| spec.context_length = 64).await?;
    let worker = server.worker().await?;
    let before = server.answer_to([picture(1)?]).await?.text;
    for count in [4, 8] {
        let parts = (1..=count).map(picture).collect::<Result<Vec<_>>>()?;
        let refused = refusal(
            server.answer_to(parts).await,
            Code::InvalidArgument,
            ErrorReason::ContextExceeded,
        );
        assert!(refused.message().contains("64"), "{refused:?}");
    }
    // As long a text as the context has tokens, and one more, behind an image.
    for length in [63, 64, 65, 100_000] {
        let parts = [picture(1)?, text(&"x".repeat(length))];
        refusal(
            server.answer_to(parts).await,
            Code::InvalidArgument,
            ErrorReason::ContextExceeded,
        );
    }
    assert_eq!(server.answer_to([picture(1)?]).await?.text, before);
    assert_eq!(server.worker().await?, worker);
    Ok(())
}

#[hangar_tests::test]
async fn a_context_too_short_for_an_image_still_takes_text() -> Result<()> {
    let server = TestServer::gemma_with(|spec| spec.context_length = 32).await?;
    refusal(
        server.asking().parts("user", [picture(1)?]).text().await,
        Code::InvalidArgument,
        ErrorReason::ContextExceeded,
    );
    let answer = server.client.generate("m").prompt("Hello").max_tokens(5);
    assert_eq!(answer.temperature(0.0).text().await?.text.len(), 5);
    Ok(())
}
