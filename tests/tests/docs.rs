//! Every command in the README works as it stands there.
//!
//! grpcurl is not in any package registry; its lines are run with `buf curl`, which speaks to the same
//! reflection. The commands that build and test are what runs this test: only their spelling is checked.

use std::{path::Path, process::Output};

use anyhow::{Context, Result, bail};
use hangar_tests::{
    fixtures::{Embedding, Fixtures},
    hangar::{DEADLINE, Hangar, Options, binary, spec},
    tools,
};
use tokio::{process::Command, task::spawn_blocking, time::timeout};

const README: &str = include_str!("../../README.md");
const CI: &str = include_str!("../../.ci/run");

/// What builds and tests, as CI and this suite do.
const MADE: &[&str] = &[
    "cargo build --release && target/release/hangar demo",
    "cargo test --release",
];

/// What starts the server that all other commands talk to.
const SERVE: &str = "target/release/hangar serve --model-root /models";

/// The lines of the README's shell blocks.
fn commands(text: &str) -> Vec<&str> {
    let mut shell = false;
    let mut commands = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            shell = line == "```sh";
        } else if shell && !line.trim().is_empty() {
            commands.push(line.trim());
        }
    }
    commands
}

/// The words of a command, without their quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word = String::new();
    let mut quote = None;
    for character in line.chars() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            (None, ' ') => {
                words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()))
            }
            _ => word.push(character),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

/// The arguments of `buf curl` that do what these arguments of grpcurl do.
fn buf_arguments(grpcurl: &[String], server: &str) -> Result<Vec<String>> {
    let mut arguments = vec!["curl".to_owned(), "--http2-prior-knowledge".to_owned()];
    arguments.extend(["--protocol".to_owned(), "grpc".to_owned()]);
    let mut rest = grpcurl.iter();
    let mut method = None;
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-plaintext" => {}
            "-d" => arguments.extend(["-d".to_owned(), rest.next().context("a body")?.clone()]),
            "-max-time" => {
                arguments.extend([
                    "--timeout".to_owned(),
                    format!("{}s", rest.next().context("a time")?),
                ]);
            }
            "localhost:50051" => {}
            "list" => method = Some((String::new(), "--list-services")),
            // The methods of all services; grpcurl shows those of the one that follows.
            "describe" => {
                rest.next().context("a service")?;
                method = Some((String::new(), "--list-methods"));
            }
            name if name.contains('/') => method = Some((name.to_owned(), "")),
            other => bail!("what does grpcurl do with {other}?"),
        }
    }
    let (path, flag) = method.context("no method")?;
    arguments.extend(Some(flag.to_owned()).filter(|flag| !flag.is_empty()));
    arguments.push(format!("{server}/{path}"));
    Ok(arguments)
}

async fn run(program: &Path, arguments: &[String], hangar: &Hangar) -> Result<Output> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("HANGAR_SERVER", hangar.url())
        .kill_on_drop(true);
    Ok(timeout(DEADLINE, command.output()).await??)
}

async fn run_line(line: &str, hangar: &Hangar, models: &[(&str, &Path)]) -> Result<()> {
    let line = models.iter().fold(line.to_owned(), |line, (name, path)| {
        line.replace(name, &path.display().to_string())
    });
    let words = words(&line);
    let (program, arguments) = match words[0].as_str() {
        "grpcurl" => (tools::buf()?, buf_arguments(&words[1..], &hangar.url())?),
        "target/release/hangarctl" => (binary("hangarctl")?, words[1..].to_vec()),
        other => bail!("who runs {other}?"),
    };
    let output = run(&program, &arguments, hangar).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    // A watch goes on until its time is over.
    let timed = line.contains("-max-time");
    let ended = if timed {
        errors.contains("deadline")
    } else {
        output.status.success()
    };
    anyhow::ensure!(ended, "{line}\n{text}\n{errors}");
    anyhow::ensure!(
        !text.is_empty() || words[0] != "grpcurl",
        "{line} says nothing"
    );
    anyhow::ensure!(!timed || text.contains("snapshot"), "{line}\n{text}");
    Ok(())
}

#[test]
fn the_commands_that_build_and_test_are_those_of_ci() {
    let commands = commands(README);
    assert_eq!(commands[..2], *MADE);
    assert!(
        CI.lines().any(|line| line.trim() == MADE[1]),
        "CI runs the README's test command"
    );
    assert!(commands.contains(&SERVE));
}

#[tokio::test]
async fn every_other_command_works_in_the_order_of_the_text() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let (text, embedding) = (fixtures.llama()?, fixtures.embedding(Embedding::Qwen3)?);
    let models = [("/models/m", &*text), ("/models/e", &*embedding)];
    let hangar = Hangar::start(Options::new(&fixtures)).await?;
    let lines: Vec<_> = commands(README)
        .into_iter()
        .filter(|line| !MADE.contains(line) && *line != SERVE)
        .collect();
    assert!(lines.len() >= 15, "{lines:?}");
    for line in lines {
        run_line(line, &hangar, &models).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_clients_example_plays_the_main_job() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let hangar = Hangar::start(Options::new(&fixtures)).await?;
    let output = run(
        &binary("examples/load_and_generate")?,
        &[hangar.url()],
        &hangar,
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

#[tokio::test]
async fn the_clients_example_for_embeddings_compares_texts() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let hangar = Hangar::start(Options::new(&fixtures)).await?;
    let spec = spec(&fixtures.embedding(Embedding::Gemma)?);
    let client = hangar.client().await?;
    client.load("e").spec(spec).wait().await?;
    let arguments = [hangar.url(), "e".to_owned()];
    let output = run(&binary("examples/embed")?, &arguments, &hangar).await?;
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

#[tokio::test]
async fn the_example_for_tritons_client_gets_an_answer() -> Result<()> {
    let block = README.split("```python\n").nth(1).context("an example")?;
    let example = block.split("```").next().context("its end")?;
    let hangar = Hangar::start(Options::new(&Fixtures::new()?)).await?;
    let example = example.replace("localhost:50051", &hangar.listen().to_string());
    let python = spawn_blocking(tools::tritonclient).await??;
    let output = run(&python, &["-c".to_owned(), example], &hangar).await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("Hangar is a gRPC service that hosts"),
        "{text}"
    );
    Ok(())
}

#[tokio::test]
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
    let options = Options::default().argument("--config").argument(path);
    let hangar = Hangar::start(options).await?;
    hangar.client().await?.info().send().await?;
    Ok(())
}
