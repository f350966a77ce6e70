//! A model that looks at images at about their own size.

use anyhow::{Context, Result};
use hangar_client::v1::ErrorReason;
use hangar_tests::{
    fixtures::Fixtures,
    images::{encoded, pattern, plain},
    refusals::{refusal, wrong_fields},
    server::TestServer,
};
use image::{DynamicImage, ImageFormat};
use tonic::Code;

use super::{Part, VisionServer, prompt_tokens, text};

async fn qwen() -> Result<TestServer> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.qwen3_vl()?;
    TestServer::real()
        .fixtures(&fixtures)
        .serving(&path, |_| ())
        .await
}

fn png(image: &DynamicImage) -> Result<Part> {
    Ok(Part::Image(encoded(image, ImageFormat::Png)?.into()))
}

/// A pattern of this size as a part.
fn picture(seed: u8, width: u32, height: u32) -> Result<Part> {
    png(&pattern(seed, width, height))
}

#[hangar_tests::test]
async fn the_inputs_of_a_model_are_reported() -> Result<()> {
    let metadata = qwen().await?.info().await?.metadata.context("metadata")?;
    assert_eq!(metadata.architecture, "Qwen3VLForConditionalGeneration");
    assert_eq!(metadata.input_modalities, ["text", "image"]);
    Ok(())
}

#[hangar_tests::test]
async fn an_image_costs_tokens_by_its_size() -> Result<()> {
    let server = qwen().await?;
    let plain = prompt_tokens(&server.answer_to([text("What?")]).await?);
    for (width, height, tokens) in [
        (32, 32, 16),
        (64, 32, 32),
        (35, 29, 16),
        (64, 64, 64),
        // Enlarged to 256 pixels and reduced to 4,096.
        (8, 8, 4),
        (1000, 1000, 64),
        (2000, 500, 64),
    ] {
        let answer = server
            .answer_to([picture(1, width, height)?, text("What?")])
            .await?;
        // Two special tokens enclose it.
        let more = prompt_tokens(&answer) - plain;
        assert_eq!(more, tokens + 2, "{width} x {height}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn answers_depend_on_images_their_sizes_and_their_order() -> Result<()> {
    let server = qwen().await?;
    let (a, b, c) = (
        picture(1, 32, 32)?,
        picture(2, 32, 32)?,
        picture(3, 64, 32)?,
    );
    let mut seen = vec![server.likelihoods([text("What?")]).await?];
    for parts in [
        vec![a.clone(), text("What?")],
        vec![b.clone(), text("What?")],
        vec![picture(1, 32, 64)?, text("What?")],
        vec![a.clone(), b.clone(), text("What?")],
        vec![b.clone(), a.clone(), text("What?")],
        // From the third image on they are all different ones.
        vec![a.clone(), b.clone(), c.clone(), a.clone(), text("What?")],
        vec![a.clone(), b.clone(), c.clone(), b.clone(), text("What?")],
        vec![a.clone(), text("What?"), c.clone()],
    ] {
        let answer = server.answer_to(parts.clone()).await?.text;
        assert_eq!(server.answer_to(parts.clone()).await?.text, answer);
        let likelihoods = server.likelihoods(parts).await?;
        // What differs by rounding is the same.
        let is_same = |others: &Vec<f32>| {
            let mut pairs = others.iter().zip(&likelihoods);
            pairs.all(|(one, other)| (one - other).abs() < 1e-3)
        };
        assert!(!seen.iter().any(is_same), "{answer}");
        seen.push(likelihoods);
    }
    let long = server.asking().parts("user", [a, text("What?")]);
    assert_eq!(long.max_tokens(300).text().await?.text.len(), 300);
    Ok(())
}

#[hangar_tests::test]
async fn image_sizes_that_the_model_cannot_take_are_refused() -> Result<()> {
    let server = qwen().await?;
    let worker = server.worker().await?;
    let before = server.answer_to([picture(1, 32, 32)?]).await?.text;
    for (width, height) in [(7, 100), (100, 7), (1, 1), (8, 8000), (8000, 39)] {
        let image = png(&plain([1, 2, 3], width, height))?;
        let answer = server.answer_to([image]).await;
        assert_eq!(
            wrong_fields(answer),
            ["messages[0].parts[0].image"],
            "{width} x {height}"
        );
    }
    assert_eq!(server.answer_to([picture(1, 32, 32)?]).await?.text, before);
    assert_eq!(server.worker().await?, worker);
    Ok(())
}

#[hangar_tests::test]
async fn the_context_and_the_image_marks_are_kept() -> Result<()> {
    let server = qwen().await?;
    let worker = server.worker().await?;
    let before = server.answer_to([picture(1, 32, 32)?]).await?.text;
    let images = (1..=8).map(|seed| picture(seed, 64, 64));
    refusal(
        server.answer_to(images.collect::<Result<Vec<_>>>()?).await,
        Code::InvalidArgument,
        ErrorReason::ContextExceeded,
    );
    for mark in [
        "<|vision_start|>",
        "<|image_pad|>",
        "<|vision_end|>",
        "<|video_pad|>",
    ] {
        let chat = server.asking().message("user", mark).text().await;
        assert_eq!(wrong_fields(chat), ["messages"], "{mark}");
        let mixed = server.answer_to([picture(1, 32, 32)?, text(mark)]).await;
        assert_eq!(wrong_fields(mixed), ["messages"], "{mark}");
        let prompt = server.asking().prompt(mark).text().await;
        assert_eq!(wrong_fields(prompt), ["prompt"], "{mark}");
    }
    let unknown = server
        .answer_to([picture(1, 32, 32)?, text("<|placeholder|>")])
        .await;
    assert_eq!(wrong_fields(unknown), ["messages"]);
    assert_eq!(server.answer_to([picture(1, 32, 32)?]).await?.text, before);
    assert_eq!(server.worker().await?, worker);
    Ok(())
}
