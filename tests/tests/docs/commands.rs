//! Every command in the README works as it stands there, and those of grpcurl on every other page.
//!
//! The commands that build and test are what runs this test: only their spelling is checked.

use std::{path::Path, process::Output};

use anyhow::{Context, Result, bail};
use hangar_tests::{
    fixtures::{Embedding, Fixtures},
    recipes::{Grpcurl, commands, pages, words},
    server::{DEADLINE, TestServer, binary, spec},
    tools,
};
use tokio::{process::Command, task::spawn_blocking, time::timeout};

const README: &str = include_str!("../../../README.md");
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

#[hangar_tests::test]
async fn every_other_command_works_in_the_order_of_the_text() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let (text, embedding) = (fixtures.llama()?, fixtures.embedding(Embedding::Qwen3)?);
    let models = [("/models/m", &*text), ("/models/e", &*embedding)];
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let lines: Vec<_> = commands(README)
        .into_iter()
        .filter(|line| !MADE.contains(&line.as_str()) && line != SERVE)
        .collect();
    assert!(lines.len() >= 15, "{lines:?}");
    let grpcurl = Grpcurl::new().await?;
    for line in lines {
        run_line(&line, &server, &models, &grpcurl).await?;
    }
    Ok(())
}

#[hangar_tests::test]
async fn the_calls_of_every_other_page_work() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let grpcurl = Grpcurl::new().await?;
    let mut run = 0;
    for (page, text) in pages(&hangar_codegen::workspace())? {
        let lines = commands(&text).into_iter();
        let lines: Vec<_> = lines.filter(|line| line.starts_with("grpcurl ")).collect();
        if text == README || lines.is_empty() {
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
async fn the_clients_example_plays_the_main_job() -> Result<()> {
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
    let block = README.split("```python\n").nth(1).context("an example")?;
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
async fn the_configuration_of_the_readme_is_understood() -> Result<()> {
    let begin = README.find("# hangar.toml").context("a configuration")?;
    let file = &README[begin..begin + README[begin..].find("```").context("its end")?];
    let fixtures = Fixtures::new()?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("hangar.toml");
    let file = file
        .replace("127.0.0.1:50051", "127.0.0.1:0")
        .replace("/models", &fixtures.root().display().to_string());
    std::fs::write(&path, file)?;
    let options = TestServer::real()
        .without_root()
        .argument("--config")
        .argument(path);
    let server = options.start().await?;
    server.connect().await?.info().send().await?;
    Ok(())
}
