//! Every command in the README and in `docs/` works as it stands there, and those of grpcurl on every other page.
//!
//! The commands that build and test are what runs this test: only their spelling is checked.

use std::{
    path::{Path, PathBuf},
    process::Output,
};

use anyhow::{Context, Result, bail};
use hangar_codegen::{pages, workspace};
use hangar_tests::{
    fixtures::{Embedding, Fixtures},
    page_commands::{Grpcurl, commands, words},
    server::{DEADLINE, TestServer, binary, spec},
    tools,
};
use tokio::{process::Command, task::spawn_blocking, time::timeout};

const README: &str = include_str!("../../../README.md");
const CONFIGURATION: &str = include_str!("../../../docs/configuration.md");
const OTHER_CLIENTS: &str = include_str!("../../../docs/other-clients.md");
const CI: &str = include_str!("../../../.ci/run");

/// What builds and tests, as CI and this suite do.
const MADE: &[&str] = &[
    "cargo build --release && target/release/hangar demo",
    "cargo test --release",
];

/// What starts the server that all other commands talk to.
const SERVE: &str = "target/release/hangar serve --model-root /models";

async fn run(program: &Path, arguments: &[String], server: &TestServer) -> Result<Output> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("HANGAR_SERVER", server.url())
        .kill_on_drop(true);
    Ok(timeout(DEADLINE, command.output()).await??)
}

async fn run_line(
    line: &str,
    server: &TestServer,
    models: &[(&str, &Path)],
    grpcurl: &Grpcurl,
) -> Result<()> {
    let line = models.iter().fold(line.to_owned(), |line, (name, path)| {
        line.replace(name, &path.display().to_string())
    });
    let words = words(&line);
    match words[0].as_str() {
        "grpcurl" => {
            let text = grpcurl.run(&line, server).await?;
            let watched = !line.contains("WatchStatus") || text.contains("snapshot");
            anyhow::ensure!(watched, "{line}\n{text}");
        }
        "target/release/hangarctl" => {
            let output = run(&binary("hangarctl")?, &words[1..], server).await?;
            let errors = String::from_utf8_lossy(&output.stderr);
            anyhow::ensure!(output.status.success(), "{line}\n{errors}");
        }
        other => bail!("who runs {other}?"),
    }
    Ok(())
}

#[hangar_tests::test]
fn the_commands_that_build_and_test_are_those_of_ci() {
    let commands = commands(README);
    assert_eq!(commands[..2], *MADE);
    assert!(
        CI.lines().any(|line| line.trim() == MADE[1]),
        "CI runs the README's test command"
    );
    assert!(commands.iter().any(|command| command == SERVE));
}

/// The README and the pages in `docs/`, whose commands are all run; or all others, whose lines of grpcurl are.
fn pages_of(whole: bool) -> Result<Vec<(PathBuf, String)>> {
    let root = workspace();
    let is_whole =
        |page: &Path| page == root.join("README.md") || page.starts_with(root.join("docs"));
    let pages = pages::all(&root)?.into_iter();
    Ok(pages.filter(|(page, _)| is_whole(page) == whole).collect())
}

#[hangar_tests::test]
async fn every_other_command_works_in_the_order_of_the_text() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let (text, embedding) = (fixtures.llama()?, fixtures.embedding(Embedding::Qwen3)?);
    let models = [("/models/m", &*text), ("/models/e", &*embedding)];
    let grpcurl = Grpcurl::new().await?;
    let mut run = 0;
    for (page, text) in pages_of(true)? {
        let lines = commands(&text).into_iter();
        let lines: Vec<_> = lines
            .filter(|line| !MADE.contains(&line.as_str()) && line != SERVE)
            .collect();
        if lines.is_empty() {
            continue;
        }
        let server = TestServer::real().fixtures(&fixtures).start().await?;
        for line in lines {
            let done = run_line(&line, &server, &models, &grpcurl).await;
            done.with_context(|| page.display().to_string())?;
            run += 1;
        }
    }
    assert!(run >= 40, "{run}");
    Ok(())
}

#[hangar_tests::test]
async fn the_calls_of_every_other_page_work() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let grpcurl = Grpcurl::new().await?;
    let mut run = 0;
    for (page, text) in pages_of(false)? {
        let lines = commands(&text).into_iter();
        let lines: Vec<_> = lines.filter(|line| line.starts_with("grpcurl ")).collect();
        if lines.is_empty() {
            continue;
        }
        let server = TestServer::real().fixtures(&fixtures).start().await?;
        for line in lines {
            let done = grpcurl.run(&line, &server).await;
            done.with_context(|| page.display().to_string())?;
            run += 1;
        }
    }
    assert!(run >= 3, "{run}");
    Ok(())
}

#[hangar_tests::test]
async fn the_clients_example_does_the_main_job() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let output = run(
        &binary("examples/load_and_generate")?,
        &[server.url()],
        &server,
    )
    .await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{errors}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("Hangar"));
    assert!(
        errors.contains("Ready") && errors.contains("bytes came back"),
        "{errors}"
    );
    Ok(())
}

#[hangar_tests::test]
async fn the_clients_example_for_embeddings_compares_texts() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let spec = spec(&fixtures.embedding(Embedding::Gemma)?);
    let client = server.connect().await?;
    client.load("e").spec(spec).wait().await?;
    let arguments = [server.url(), "e".to_owned()];
    let output = run(&binary("examples/embed")?, &arguments, &server).await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.lines().count(), 3, "{text}");
    for line in text.lines() {
        let near: f32 = line.split("  ").next().context("a number")?.parse()?;
        assert!((-1.0..=1.0).contains(&near), "{line}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn the_example_for_tritons_client_gets_an_answer() -> Result<()> {
    let block = OTHER_CLIENTS
        .split("```python\n")
        .nth(1)
        .context("an example")?;
    let example = block.split("```").next().context("its end")?;
    let server = TestServer::real()
        .fixtures(&Fixtures::new()?)
        .start()
        .await?;
    let example = example.replace("localhost:50051", &server.listen().to_string());
    let python = spawn_blocking(tools::tritonclient).await??;
    let output = run(&python, &["-c".to_owned(), example], &server).await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("Hangar is a gRPC service that hosts"),
        "{text}"
    );
    Ok(())
}

#[hangar_tests::test]
async fn the_configuration_file_of_the_page_is_understood() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let directory = tempfile::tempdir()?;
    let token = directory.path().join("token");
    std::fs::write(&token, "hf_none")?;
    let blocks = CONFIGURATION.split("```toml\n").skip(1);
    let blocks: Vec<_> = blocks
        .filter_map(|block| block.split("```").next())
        .collect();
    assert_eq!(blocks.len(), 3);
    let file = blocks
        .concat()
        .replace("127.0.0.1:50051", "127.0.0.1:0")
        .replace("/models", &fixtures.root().display().to_string())
        .replace("/run/secrets/hub-token", &token.display().to_string())
        .replace("/var/cache", &directory.path().display().to_string());
    let path = directory.path().join("hangar.toml");
    std::fs::write(&path, file)?;
    let options = TestServer::real()
        .without_root()
        .argument("--config")
        .argument(path);
    let server = options.start().await?;
    let info = server.connect().await?.info().send().await?;
    assert_eq!(info.models[0].model_id, "Qwen/Qwen3-0.6B");
    Ok(())
}
