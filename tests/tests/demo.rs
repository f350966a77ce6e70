//! `hangar demo` and the model that it plays with.

use std::process::Stdio;

use anyhow::{Context, Result};
use hangar_tests::{
    fixtures::Fixtures,
    hangar::{DEADLINE, Hangar, Options, binary},
};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::Command,
    time::timeout,
};

/// What the training script found the model to say.
const ANSWERS: &str = include_str!("../../server/worker/demo/answers.json");

#[derive(Deserialize)]
struct Answer {
    prompt: String,
    answer: String,
}

async fn said(prompt: &str, hangar: &Hangar) -> Result<String> {
    let request = hangar
        .client()
        .await?
        .generate("demo")
        .message("user", prompt);
    Ok(request.temperature(0.0).max_tokens(128).text().await?.text)
}

#[tokio::test]
async fn the_demo_model_says_what_it_was_taught() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let hangar = Hangar::start(Options::new(&fixtures)).await?;
    hangar.client().await?.load("demo").demo().wait().await?;
    let answers: Vec<Answer> = serde_json::from_str(ANSWERS)?;
    assert!(answers.len() >= 10);
    for Answer { prompt, answer } in answers {
        assert_eq!(said(&prompt, &hangar).await?, answer, "{prompt}");
    }
    Ok(())
}

#[tokio::test]
async fn its_name_is_enough_to_load_it() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let hangar = Hangar::start(Options::new(&fixtures)).await?;
    let loaded = hangar.client().await?.load("demo").wait().await?;
    assert!(!loaded.already_loaded);
    let info = hangar.client().await?.info().model("demo").send().await?;
    let metadata = info.models[0].metadata.clone().context("metadata")?;
    assert_eq!(metadata.architecture, "LlamaForCausalLM");
    assert!((900_000..2_000_000).contains(&metadata.parameter_count));
    Ok(())
}

#[tokio::test]
async fn the_demonstration_plays_every_step_and_ends() -> Result<()> {
    let output = Command::new(binary("hangar")?)
        .args([
            "demo",
            "--exit",
            "--listen",
            "127.0.0.1:0",
            "--ops-listen",
            "127.0.0.1:0",
        ])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(DEADLINE, output).await??;
    let text = String::from_utf8(output.stdout)?;
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut rest = text.as_str();
    for part in [
        "listens on 127.0.0.1:",
        "1. Load.",
        "LOADING",
        "READY",
        "2. Look.",
        "LlamaForCausalLM",
        "3. Ask.",
        "Q: What is Hangar?",
        "A: Hangar",
        "17 + 25",
        "42",
        "4. Unload.",
        "came back",
        "UNLOAD_VERIFICATION_REAPED",
        "grpcurl -plaintext",
    ] {
        let at = rest
            .find(part)
            .with_context(|| format!("{part:?} is missing in {rest:?}"))?;
        rest = &rest[at + part.len()..];
    }
    Ok(())
}

#[tokio::test]
async fn the_demonstration_serves_on_until_a_signal_comes() -> Result<()> {
    let mut demo = Command::new(binary("hangar")?)
        .args([
            "demo",
            "--listen",
            "127.0.0.1:0",
            "--ops-listen",
            "127.0.0.1:0",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(demo.stdout.take().context("no output")?).lines();
    let address = loop {
        let line = timeout(DEADLINE, lines.next_line())
            .await??
            .context("the demonstration ended")?;
        if let Some(rest) = line.strip_prefix("Still serving on ") {
            break rest.split(';').next().unwrap_or_default().to_owned();
        }
    };
    let client = hangar_client::Client::connect(format!("http://{address}")).await?;
    let load = client.load("demo").wait().await?;
    let worker = load.status.context("a status")?.worker_pid;
    let pid = demo.id().context("it runs")?;
    hangar_tests::processes::signal(pid, rustix::process::Signal::INT)?;
    let status = timeout(DEADLINE, demo.wait()).await??;
    assert!(status.success());
    assert!(!hangar_tests::processes::is_running(worker));
    let mut rest = String::new();
    lines.into_inner().read_to_string(&mut rest).await?;
    Ok(())
}
