//! Bytes that are no images, and images that are none for a model. Each is refused by its place and its
//! fault; the worker lives on, takes no memory for it, and the next answer is as before.

use anyhow::Result;
use hangar_tests::{
    images::{encoded, pattern, plain},
    processes,
    refusals::wrong_fields,
    server::TestServer,
};
use image::{Delay, DynamicImage, Frame, ImageFormat, codecs::gif::GifEncoder};

use super::{Part, VisionServer, picture, text};

const FIELD: &str = "messages[0].parts[1].image";

/// More than the worker has at any time, in bytes.
const MEMORY: u64 = 400 << 20;

struct BadImage {
    name: &'static str,
    bytes: Vec<u8>,
    /// What the refusal says.
    words: &'static str,
}

fn bad(name: &'static str, bytes: impl Into<Vec<u8>>, words: &'static str) -> BadImage {
    BadImage {
        name,
        bytes: bytes.into(),
        words,
    }
}

/// A PNG whose header claims another size.
fn forged(width: u32, height: u32) -> Result<Vec<u8>> {
    let mut png = encoded(&pattern(1, 16, 16), ImageFormat::Png)?;
    // The signature is 8 bytes, then the length and the name of the header's chunk.
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = crc(&png[12..29]);
    png[29..33].copy_from_slice(&sum.to_be_bytes());
    Ok(png)
}

/// The check sum of PNG's chunks.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            let shifted = crc >> 1;
            if crc & 1 == 1 {
                shifted ^ 0xEDB8_8320
            } else {
                shifted
            }
        })
    };
    !bytes.iter().fold(!0, step)
}

/// A GIF with the size of its canvas forged.
fn forged_gif(width: u16, height: u16) -> Result<Vec<u8>> {
    let mut gif = encoded(&plain([1, 2, 3], 16, 16), ImageFormat::Gif)?;
    gif[6..8].copy_from_slice(&width.to_le_bytes());
    gif[8..10].copy_from_slice(&height.to_le_bytes());
    Ok(gif)
}

fn long_gif(frames: u32) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new_with_speed(&mut bytes, 30);
    for n in 0..frames {
        let image = plain([u8::try_from(n % 256)?, 80, 9], 64, 64).to_rgba8();
        let delay = Delay::from_numer_denom_ms(10, 1);
        encoder.encode_frame(Frame::from_parts(image, 0, 0, delay))?;
    }
    drop(encoder);
    Ok(bytes)
}

fn all() -> Result<Vec<BadImage>> {
    let png = encoded(&pattern(1, 200, 200), ImageFormat::Png)?;
    let jpeg = encoded(&pattern(1, 200, 200), ImageFormat::Jpeg)?;
    let webp = encoded(&pattern(1, 200, 200), ImageFormat::WebP)?;
    let tiff = b"II*\0\x08\0\0\0\0\0\0\0";
    let wide = encoded(&plain([5, 5, 5], 20_000, 4), ImageFormat::Png)?;
    let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"9\"/>";
    let flipped: Vec<u8> = png
        .iter()
        .enumerate()
        .map(|(n, byte)| if n > 60 { !byte } else { *byte })
        .collect();
    Ok(vec![
        bad("text", "this is no image at all", "not an image"),
        bad("zeros", vec![0; 10_000], "not an image"),
        bad("an SVG", svg, "not an image"),
        bad("a PDF", "%PDF-1.7 and so on", "not an image"),
        bad("another format", tiff, "TIFF"),
        bad("a signature alone", &png[..8], "cannot be decoded"),
        bad("half a PNG", &png[..png.len() / 2], "cannot be decoded"),
        bad("a changed PNG", flipped, "cannot be decoded"),
        bad("half a JPEG's header", &jpeg[..100], "cannot be decoded"),
        bad("half a WebP", &webp[..webp.len() / 2], "cannot be decoded"),
        bad("20,000 pixels wide", wide, "20000 x 4"),
        bad(
            "20,000 pixels square",
            forged(20_000, 20_000)?,
            "20000 x 20000",
        ),
        bad(
            "2^31 pixels wide",
            forged(0x7FFF_FFFF, 0x7FFF_FFFF)?,
            "too large",
        ),
        bad("beyond what PNG has", forged(u32::MAX, u32::MAX)?, ""),
        bad("no pixels", forged(0, 16)?, ""),
        bad(
            "pixels that are not there",
            forged(4096, 4096)?,
            "cannot be decoded",
        ),
        bad("a large GIF", forged_gif(65_535, 65_535)?, "65535 x 65535"),
        bad("a GIF without pixels", forged_gif(0, 9)?, ""),
        bad(
            "4,097 lines",
            encoded(&plain([0; 3], 4096, 4097), ImageFormat::Png)?,
            "4096 x 4097",
        ),
    ])
}

#[hangar_tests::test]
async fn what_is_no_image_is_refused_and_harms_nothing() -> Result<()> {
    let server = TestServer::gemma().await?;
    let worker = server.worker().await?;
    let before = server.answer_to([picture(1)?, text("What?")]).await?.text;
    for bad in all()? {
        let parts = [text("What?"), Part::Image(bad.bytes.into())];
        let answer = server.asking().parts("user", parts).text().await;
        let message = answer
            .as_ref()
            .map_or_else(ToString::to_string, |_| String::new());
        assert_eq!(wrong_fields(answer), [FIELD], "{}", bad.name);
        assert!(message.contains(bad.words), "{}: {message}", bad.name);
        let after = server.answer_to([picture(1)?, text("What?")]).await?.text;
        assert_eq!(after, before, "{}", bad.name);
    }
    assert_eq!(server.worker().await?, worker);
    let peak = processes::peak_bytes(worker)?;
    assert!(peak < MEMORY, "{peak} bytes");
    Ok(())
}

#[hangar_tests::test]
async fn the_largest_images_together_take_bounded_memory() -> Result<()> {
    let server = TestServer::gemma().await?;
    let worker = server.worker().await?;
    let before = server.answer_to([picture(1)?]).await?.text;
    // Eight bytes a pixel, which is the most that comes.
    let image = DynamicImage::ImageRgba16(plain([7, 80, 200], 4096, 4096).into_rgba16());
    let png = Part::Image(encoded(&image, ImageFormat::Png)?.into());
    drop(image);
    let answer = server.answer_to(vec![png; 8]).await?;
    assert_eq!(answer.text.len(), 12);
    assert_eq!(server.answer_to([picture(1)?]).await?.text, before);
    assert_eq!(server.worker().await?, worker);
    let peak = processes::peak_bytes(worker)?;
    assert!(peak < MEMORY, "{peak} bytes");
    Ok(())
}

#[hangar_tests::test]
async fn the_first_frame_of_an_animation_is_taken() -> Result<()> {
    let server = TestServer::gemma().await?;
    let gif = |frames| anyhow::Ok(Part::Image(long_gif(frames)?.into()));
    let one = server.answer_to([gif(1)?, text("What?")]).await?.text;
    assert_eq!(
        server.answer_to([gif(2_000)?, text("What?")]).await?.text,
        one
    );
    Ok(())
}

#[hangar_tests::test]
async fn one_bad_image_among_good_ones_is_named() -> Result<()> {
    let server = TestServer::gemma().await?;
    let bad = Part::Image("no image".into());
    let conversation = server.asking().parts("user", [picture(1)?, text("Look")]);
    let conversation = conversation.message("assistant", "Yes?");
    let parts = [picture(2)?, picture(3)?, bad];
    let answer = conversation.parts("user", parts).text().await;
    assert_eq!(wrong_fields(answer), ["messages[2].parts[2].image"]);
    Ok(())
}

#[hangar_tests::test]
async fn a_request_beyond_the_servers_limit_is_refused_whole() -> Result<()> {
    let server = TestServer::gemma().await?;
    let before = server.answer_to([picture(1)?]).await?.text;
    let answer = server
        .answer_to([Part::Image(vec![0; 17 << 20].into())])
        .await;
    let error = answer.expect_err("more than 16 MiB");
    assert!(error.to_string().contains("too large"), "{error}");
    assert_eq!(server.answer_to([picture(1)?]).await?.text, before);
    Ok(())
}
