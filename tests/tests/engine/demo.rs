//! `hangar demo` and the model that it plays with.

use std::{net::SocketAddr, process::Stdio};

use anyhow::{Context, Result};
use hangar_tests::{
    failpoints::Failpoints,
    fixtures::Fixtures,
    page_commands::Grpcurl,
    server::{DEADLINE, TestServer, binary},
};
use rstest::rstest;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{ChildStdout, Command},
    time::timeout,
};

/// What the training script found the model to say.
const ANSWERS: &str = include_str!("../../../server/worker/demo/answers.json");

/// Ports of its own.
const PORTS: [&str; 4] = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];

/// What the demonstration shows, in this order.
const STEPS: [&str; 15] = [
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
    "Every step did what it says.",
];

/// Runs its arguments on a terminal, whose keyboard and screen are pipes. Ends as they do.
const TERMINAL: &str =
    "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

#[derive(Deserialize)]
struct DemoAnswer {
    prompt: String,
    answer: String,
}

async fn answer_to(prompt: &str, server: &TestServer) -> Result<String> {
    let request = server
        .connect()
        .await?
        .generate("demo")
        .message("user", prompt);
    Ok(request.temperature(0.0).max_tokens(128).text().await?.text)
}

#[hangar_tests::test]
async fn the_demo_model_gives_its_trained_answers() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    server.connect().await?.load("demo").demo().wait().await?;
    let answers: Vec<DemoAnswer> = serde_json::from_str(ANSWERS)?;
    assert!(answers.len() >= 10);
    for DemoAnswer { prompt, answer } in answers {
        assert_eq!(answer_to(&prompt, &server).await?, answer, "{prompt}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn the_demo_model_is_loaded_by_its_name_alone() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let loaded = server.connect().await?.load("demo").wait().await?;
    assert!(!loaded.already_loaded);
    let info = server.connect().await?.info().model("demo").send().await?;
    let metadata = info.models[0].metadata.clone().context("metadata")?;
    assert_eq!(metadata.architecture, "LlamaForCausalLM");
    assert!((900_000..2_000_000).contains(&metadata.parameter_count));
    Ok(())
}

/// `hangar demo` on free ports, with these arguments and no terminal.
fn demo(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary("hangar")?);
    command.arg("demo").args(PORTS).args(arguments);
    command.stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// Reads until the demonstration says that it serves on; gives the lines before that, and where it serves.
async fn serving(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<(Vec<String>, SocketAddr)> {
    let mut reported = Vec::new();
    loop {
        let line = timeout(DEADLINE, lines.next_line()).await??;
        let line = line.with_context(|| format!("the demonstration ended: {reported:?}"))?;
        if let Some(rest) = line.strip_prefix("Still serving on ") {
            let address = rest.split(';').next().unwrap_or_default().parse()?;
            return Ok((reported, address));
        }
        reported.push(line);
    }
}

#[rstest]
#[hangar_tests::test]
async fn without_a_terminal_the_demonstration_runs_every_step_and_ends(
    #[values(&[], &["--exit"])] arguments: &[&str],
) -> Result<()> {
    let output = timeout(DEADLINE, demo(arguments)?.output()).await??;
    let text = String::from_utf8(output.stdout)?;
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut rest = text.as_str();
    for part in STEPS {
        let at = rest
            .find(part)
            .with_context(|| format!("{part:?} is missing in {rest:?}"))?;
        rest = &rest[at + part.len()..];
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_step_that_fails_ends_the_demonstration_with_status_1() -> Result<()> {
    let too_small = ["--memory-limit", "1MiB"];
    for arguments in [&too_small[..], &["--serve", "--memory-limit", "1MiB"]] {
        let output = timeout(DEADLINE, demo(arguments)?.output()).await??;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("hangar: "), "{errors}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!text.contains("Every step"), "{text}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_task_that_dies_ends_the_demonstration_with_a_status_of_its_own() -> Result<()> {
    let failpoints = Failpoints::new()?;
    failpoints.panic("hangar-spawner")?;
    let mut demo = Command::new(binary("hangar-failpoints")?);
    demo.arg("demo").args(PORTS).arg("--exit");
    demo.env("HANGAR_FAILPOINTS", failpoints.path());
    demo.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(DEADLINE, demo.output()).await??;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(70), "{errors}");
    assert!(errors.contains("hangar-spawner panicked"), "{errors}");
    Ok(())
}

#[hangar_tests::test]
async fn asked_to_serve_the_demonstration_serves_on_until_a_signal_comes() -> Result<()> {
    let mut demo = demo(&["--serve"])?.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(demo.stdout.take().context("no output")?).lines();
    let (reported, address) = serving(&mut lines).await?;
    let grpcurl = Grpcurl::new().await?;
    let mut tried = 0;
    for line in reported {
        let line = line.trim();
        if !line.starts_with("grpcurl ") {
            continue;
        }
        // A watch goes on until its time is over.
        let line = match line.contains("WatchStatus") {
            true => line.replacen("grpcurl", "grpcurl -max-time 1", 1),
            false => line.to_owned(),
        };
        grpcurl.run_at(&line, address, address).await?;
        tried += 1;
    }
    assert!(tried >= 7, "{tried}");

    let client = hangar_client::Client::connect(format!("http://{address}")).await?;
    let load = client.load("demo").wait().await?;
    let worker = load.status.context("a status")?.worker_pid;
    let pid = demo.id().context("it runs")?;
    hangar_tests::processes::signal(pid, rustix::process::Signal::INT)?;
    let status = timeout(DEADLINE, demo.wait()).await??;
    assert!(status.success());
    assert!(!hangar_tests::processes::is_running(worker));
    Ok(())
}

#[hangar_tests::test]
async fn on_a_terminal_the_demonstration_serves_on_until_ctrl_c() -> Result<()> {
    let mut terminal = Command::new("python3")
        .args(["-c", TERMINAL])
        .arg(binary("hangar")?)
        .arg("demo")
        .args(PORTS)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut keys = terminal.stdin.take().context("no input")?;
    let mut lines = BufReader::new(terminal.stdout.take().context("no output")?).lines();
    let (_, address) = serving(&mut lines).await?;
    let client = hangar_client::Client::connect(format!("http://{address}")).await?;
    client.info().send().await?;
    keys.write_all(b"\x03").await?;
    let status = timeout(DEADLINE, terminal.wait()).await??;
    assert!(status.success(), "{status}");
    Ok(())
}
