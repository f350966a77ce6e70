//! `hangarctl generate --image`.

use std::{path::Path, process::Output};

use anyhow::Result;
use hangar_tests::{
    images::{encoded, pattern},
    server::{TestServer, binary},
};
use image::ImageFormat;
use tokio::process::Command;

use super::{Part, VisionServer, text};

async fn generate(server: &TestServer, arguments: &[&str], images: &[&Path]) -> Result<Output> {
    let url = server.url();
    let mut command = Command::new(binary("hangarctl")?);
    command
        .args(["--server", &url, "generate", "m"])
        .args(arguments);
    for image in images {
        command.arg("--image").arg(image);
    }
    Ok(command.output().await?)
}

#[hangar_tests::test]
async fn images_precede_the_prompt_in_their_order() -> Result<()> {
    const ASKED: [&str; 5] = ["What?", "--temperature", "0", "--max-tokens", "12"];
    let server = TestServer::gemma().await?;
    let directory = server.fixtures.outside();
    let (png, jpeg) = (directory.join("a.png"), directory.join("b.jpg"));
    let a = encoded(&pattern(1, 50, 50), ImageFormat::Png)?;
    let b = encoded(&pattern(2, 50, 50), ImageFormat::Jpeg)?;
    std::fs::write(&png, &a)?;
    std::fs::write(&jpeg, &b)?;
    let (a, b) = (Part::Image(a.into()), Part::Image(b.into()));
    let expected = server.answer_to([a, b, text("What?")]).await?.text;
    let output = generate(&server, &ASKED, &[&png, &jpeg]).await?;
    assert_eq!(
        String::from_utf8(output.stdout)?.trim_end_matches('\n'),
        expected
    );
    assert_eq!(output.status.code(), Some(0));
    let other = generate(&server, &ASKED, &[&jpeg, &png]).await?;
    assert_ne!(
        String::from_utf8(other.stdout)?.trim_end_matches('\n'),
        expected
    );
    Ok(())
}

#[hangar_tests::test]
async fn files_that_are_no_images_or_missing_are_named() -> Result<()> {
    let server = TestServer::gemma().await?;
    let path = server.fixtures.outside().join("c.png");
    let missing = generate(&server, &["What?"], &[&path]).await?;
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8(missing.stderr)?.contains("c.png"));
    std::fs::write(&path, "no image")?;
    let wrong = generate(&server, &["What?"], &[&path]).await?;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8(wrong.stderr)?.contains("messages[0].parts[0].image"));
    let raw = generate(&server, &["--raw", "What?"], &[&path]).await?;
    assert_eq!(raw.status.code(), Some(2));
    Ok(())
}
