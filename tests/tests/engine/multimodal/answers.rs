//! Answers to images.

use anyhow::{Context, Result};
use hangar_client::{GenerateEvent, v1::FinishReason};
use hangar_tests::{images, server::TestServer};
use image::{DynamicImage, ImageFormat};

use super::{Part, VisionServer, picture, prompt_tokens, text};

/// Tokens that a picture becomes beyond its mark in the text: four, two that enclose them, four line ends.
const PICTURE: u32 = 10;

#[hangar_tests::test]
async fn the_answer_depends_on_the_image_and_on_nothing_else() -> Result<()> {
    let server = TestServer::gemma().await?;
    let parts = |image: Option<Part>| image.into_iter().chain([text("What is this?")]);
    let none = server.answer_to(parts(None)).await?.text;
    let mut answers = vec![none];
    for seed in 1..=4 {
        let one = server.answer_to(parts(Some(picture(seed)?))).await?;
        let again = server.answer_to(parts(Some(picture(seed)?))).await?;
        assert_eq!(one.text, again.text, "picture {seed}");
        assert_eq!(one.text.len(), 12);
        assert!(!answers.contains(&one.text), "picture {seed}: {answers:?}");
        answers.push(one.text);
    }
    Ok(())
}

#[hangar_tests::test]
async fn several_images_are_seen_each_in_its_place() -> Result<()> {
    let server = TestServer::gemma().await?;
    let (a, b) = (picture(1)?, picture(2)?);
    let orders = [
        vec![a.clone(), b.clone(), text("Compare")],
        vec![b.clone(), a.clone(), text("Compare")],
        vec![a.clone(), text("Compare"), b.clone()],
        vec![text("Compare"), a.clone(), b.clone()],
        vec![a.clone(), a.clone(), text("Compare")],
        vec![a.clone(), text("Compare")],
    ];
    let mut answers = Vec::new();
    for parts in orders {
        let images = parts.iter().filter(|part| matches!(part, Part::Image(_)));
        let images = u32::try_from(images.count())?;
        let answer = server.answer_to(parts.clone()).await?;
        let plain = server.answer_to([text("Compare")]).await?;
        let more = prompt_tokens(&answer) - prompt_tokens(&plain);
        assert_eq!(more, images * PICTURE);
        assert_eq!(server.answer_to(parts).await?.text, answer.text);
        assert!(!answers.contains(&answer.text), "{answers:?}");
        answers.push(answer.text);
    }
    Ok(())
}

#[hangar_tests::test]
async fn earlier_messages_may_have_images() -> Result<()> {
    let server = TestServer::gemma().await?;
    let ask = async |seed| {
        let first = [picture(seed)?, text("Look")];
        let conversation = server.asking().parts("user", first);
        let conversation = conversation.message("assistant", "I see.");
        let conversation = conversation.message("user", "What?");
        anyhow::Ok(conversation.text().await?.text)
    };
    assert_eq!(ask(1).await?, ask(1).await?);
    assert_ne!(ask(1).await?, ask(2).await?);
    Ok(())
}

#[hangar_tests::test]
async fn the_same_pixels_get_the_same_answer_in_every_format() -> Result<()> {
    let server = TestServer::gemma().await?;
    // Of few colours, as a GIF wants it, and with transparency, which is left out.
    let image = images::plain([200, 30, 90], 32, 32);
    let with_alpha = DynamicImage::ImageRgba8(image.to_rgba8());
    let expected = images::encoded(&image, ImageFormat::Bmp)?;
    let expected = server.answer_to([Part::Image(expected.into())]).await?.text;
    for (image, format) in [
        (&image, ImageFormat::Png),
        (&with_alpha, ImageFormat::Png),
        (&image, ImageFormat::WebP),
        (&image, ImageFormat::Gif),
    ] {
        let bytes = images::encoded(image, format)?;
        let answer = server.answer_to([Part::Image(bytes.into())]).await?;
        assert_eq!(answer.text, expected, "{format:?}");
    }
    // Not the same pixels quite.
    let jpeg = images::encoded(&images::pattern(1, 200, 100), ImageFormat::Jpeg)?;
    let answer = server.answer_to([Part::Image(jpeg.into())]).await?;
    assert_eq!(answer.text.len(), 12);
    assert_ne!(answer.text, expected);
    Ok(())
}

#[hangar_tests::test]
async fn a_large_image_is_taken() -> Result<()> {
    let server = TestServer::gemma().await?;
    // 9 MB.
    let bmp = images::encoded(&images::pattern(3, 2000, 1500), ImageFormat::Bmp)?;
    assert!(bmp.len() > 8 << 20);
    let answer = server
        .answer_to([Part::Image(bmp.into()), text("What?")])
        .await?;
    assert_eq!(answer.text.len(), 12);
    // The longest side that is taken, and the most pixels.
    for (width, height) in [(8192, 8), (4096, 4096)] {
        let png = images::encoded(&images::plain([9, 9, 9], width, height), ImageFormat::Png)?;
        let answer = server
            .answer_to([Part::Image(png.into()), text("What?")])
            .await?;
        assert_eq!(answer.text.len(), 12);
    }
    Ok(())
}

#[hangar_tests::test]
async fn sampling_and_limits_hold_for_images() -> Result<()> {
    let server = TestServer::gemma().await?;
    let ask = |seed: u64| {
        let generate = server.client.generate("m").temperature(1.0).seed(seed);
        anyhow::Ok(generate.parts("user", [picture(1)?, text("What?")]))
    };
    let one = ask(1)?.max_tokens(20).text().await?;
    assert_eq!(one.done.finish_reason(), FinishReason::Length);
    assert_eq!(one.text.len(), 20);
    assert_eq!(ask(1)?.max_tokens(20).text().await?.text, one.text);
    assert_ne!(ask(2)?.max_tokens(20).text().await?.text, one.text);
    assert_eq!(ask(1)?.max_tokens(1).text().await?.text, one.text[..1]);
    let stopped = ask(1)?.max_tokens(20).stop(&one.text[5..7]).text().await?;
    assert_eq!(stopped.done.finish_reason(), FinishReason::Stop);
    assert!(one.text.starts_with(&stopped.text) && stopped.text.len() <= 5);
    let digits = ask(1)?.max_tokens(20).regex("[0-9]{6}").text().await?;
    assert!(digits.text.len() == 6 && digits.text.bytes().all(|b| b.is_ascii_digit()));
    Ok(())
}

#[hangar_tests::test]
async fn logprobs_work_with_images() -> Result<()> {
    let server = TestServer::gemma().await?;
    let request = server.asking().parts("user", [picture(1)?, text("What?")]);
    let mut stream = request.logprobs(3).stream().await?;
    let (mut likelihoods, mut done) = (Vec::new(), None);
    while let Some(event) = stream.next().await {
        match event? {
            GenerateEvent::Chunk(chunk) => likelihoods.extend(chunk.logprobs),
            GenerateEvent::Done(end) => done = Some(end),
        }
    }
    let usage = done.and_then(|done| done.usage).context("usage")?;
    assert_eq!(usage.completion_tokens, 12);
    assert_eq!(likelihoods.len(), 12);
    for token in likelihoods {
        assert!(token.logprob <= 0.0 && token.top.len() == 3);
        assert_eq!(token.top[0].token_id, token.token_id);
    }
    Ok(())
}

#[hangar_tests::test]
async fn text_alone_works_as_with_other_models() -> Result<()> {
    let server = TestServer::gemma().await?;
    let before = server.asking().prompt("Hello").text().await?.text;
    server.answer_to([picture(1)?, text("What?")]).await?;
    assert_eq!(server.asking().prompt("Hello").text().await?.text, before);
    let chat = server.asking().message("user", "Hello").text().await?.text;
    assert_eq!(
        server.answer_to([text("Hel"), text("lo")]).await?.text,
        chat
    );
    assert_ne!(chat, before);
    let tokens = server.client.tokenize("m", "Hello").send().await?;
    assert_eq!(server.client.detokenize("m", tokens).send().await?, "Hello");
    Ok(())
}
