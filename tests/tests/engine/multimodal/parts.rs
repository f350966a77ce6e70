//! Messages in parts, at models that take text only and at those that take more.

use anyhow::Result;
use hangar_client::v1::{ChatMessage, ContentPart, ErrorReason};
use hangar_tests::{
    fixtures::Fixtures,
    refusals::{refusal, wrong_fields},
    server::TestServer,
};
use tonic::Code;

use super::{Part, VisionServer, picture, text};

#[hangar_tests::test]
async fn parts_of_text_are_what_they_are_together() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.llama()?;
    let server = TestServer::real()
        .fixtures(&fixtures)
        .serving(&path, |_| ())
        .await?;
    let whole = server.asking().message("user", "Hello, you").text().await?;
    let parts = [text("Hello,"), text(" "), text(""), text("you")];
    assert_eq!(server.answer_to(parts).await?.text, whole.text);
    Ok(())
}

#[hangar_tests::test]
async fn a_text_model_says_that_it_takes_text_only() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.llama()?;
    let server = TestServer::real()
        .fixtures(&fixtures)
        .serving(&path, |_| ())
        .await?;
    assert_eq!(
        server
            .info()
            .await?
            .metadata
            .unwrap_or_default()
            .input_modalities,
        ["text"]
    );
    let before = server.answer_to([text("Hello")]).await?.text;
    let worker = server.worker().await?;
    for (part, name) in [(picture(1)?, "image"), (Part::Audio("x".into()), "audio")] {
        let answer = server.answer_to([text("Hello"), part]).await;
        let refusal = refusal(
            answer,
            Code::FailedPrecondition,
            ErrorReason::UnsupportedByModel,
        );
        let place = format!("messages[0].parts[1].{name}");
        assert!(refusal.message().contains(&place), "{refusal:?}");
        assert!(refusal.message().contains("takes text"), "{refusal:?}");
    }
    assert_eq!(server.answer_to([text("Hello")]).await?.text, before);
    assert_eq!(server.worker().await?, worker);
    Ok(())
}

#[hangar_tests::test]
async fn malformed_parts_are_refused_by_their_place() -> Result<()> {
    let server = TestServer::gemma().await?;
    let image = picture(1)?;
    let parts = |role: &str, content: &str, parts: Vec<Option<Part>>| {
        let parts = parts.into_iter().map(|part| ContentPart { part });
        let message = ChatMessage {
            role: role.into(),
            content: content.into(),
            parts: parts.collect(),
            ..ChatMessage::default()
        };
        server
            .asking()
            .with(|request| request.messages = vec![message])
    };
    let empty = Some(Part::Image("".into()));
    let images = vec![Some(image.clone()); 9];
    let image = || vec![Some(image.clone())];
    for (request, field) in [
        (parts("user", "Hello", image()), "messages[0].parts"),
        (parts("user", "", vec![None]), "messages[0].parts[0]"),
        (parts("user", "", vec![empty]), "messages[0].parts[0].image"),
        (parts("system", "", image()), "messages[0].parts[0].image"),
        (parts("user", "", images), "messages"),
        (parts("user", "", vec![Some(text("a")); 257]), "messages"),
    ] {
        assert_eq!(wrong_fields(request.text().await), [field]);
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_text_cannot_pretend_to_be_an_image() -> Result<()> {
    let server = TestServer::gemma().await?;
    let before = server.answer_to([picture(1)?, text("What?")]).await?.text;
    let worker = server.worker().await?;
    for mark in ["<start_of_image>", "<image_soft_token>", "<end_of_image>"] {
        let chat = server.asking().message("user", mark).text().await;
        assert_eq!(wrong_fields(chat), ["messages"], "{mark}");
        let prompt = server.asking().prompt(format!("a {mark} b")).text().await;
        assert_eq!(wrong_fields(prompt), ["prompt"], "{mark}");
    }
    for mark in ["<start_of_image>", "<image_soft_token>", "<end_of_image>"] {
        let mixed = server.answer_to([picture(1)?, text(mark)]).await;
        assert_eq!(wrong_fields(mixed), ["messages"], "{mark}");
    }
    assert_eq!(
        server.answer_to([picture(1)?, text("What?")]).await?.text,
        before
    );
    assert_eq!(server.worker().await?, worker);
    Ok(())
}
