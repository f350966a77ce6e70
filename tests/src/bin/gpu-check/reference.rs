//! The engine by itself, in a process of its own: `server/worker/examples/device_reference.rs`.

use std::{path::Path, process::Stdio};

use anyhow::{Context, Result};
use hangar_tests::hangar::binary;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// The engine with one model. Killed when dropped.
pub(crate) struct Reference {
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

/// What it tells of an answer or a copy.
#[derive(Debug, Deserialize)]
pub(crate) struct Told {
    pub(crate) text: String,
    pub(crate) tokens: usize,
    /// Seconds until the first token.
    pub(crate) first: f64,
    /// Seconds until the end.
    pub(crate) whole: f64,
}

impl Told {
    /// Tokens a second after the first.
    pub(crate) fn speed(&self) -> f64 {
        self.tokens.saturating_sub(1) as f64 / (self.whole - self.first).max(1e-9)
    }
}

/// Whether the program is there; what is carried to another machine may have to be small.
pub(crate) fn is_there(is_gpu: bool) -> bool {
    binary(program(is_gpu).0).is_ok()
}

/// The program for a device, and its arguments after the model.
fn program(is_gpu: bool) -> (&'static str, [&'static str; 2]) {
    match is_gpu {
        true => ("examples/device_reference-cuda", ["bf16", "cuda"]),
        false => ("examples/device_reference", ["f16", "cpu"]),
    }
}

impl Reference {
    /// Loads the model, in the data type that Hangar chooses for the device.
    pub(crate) async fn start(model: &Path, is_gpu: bool) -> Result<Self> {
        let (program, arguments) = program(is_gpu);
        let mut process = Command::new(binary(program)?)
            .arg(model)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()?;
        let input = process.stdin.take().context("no standard input")?;
        let output = process.stdout.take().context("no standard output")?;
        let mut reference = Self {
            _process: process,
            input,
            output: BufReader::new(output).lines(),
        };
        let line = reference.line().await?;
        let ready: Value = serde_json::from_str(&line)?;
        anyhow::ensure!(ready.get("ready").is_some(), "it said {line}");
        Ok(reference)
    }

    /// A greedy answer.
    pub(crate) async fn answer(&mut self, prompt: &str, tokens: u32) -> Result<Told> {
        self.ask(&json!({ "prompt": prompt, "max_tokens": tokens }))
            .await
    }

    /// A copy from ordinary memory to the device.
    pub(crate) async fn copy(&mut self, bytes: usize) -> Result<Told> {
        self.ask(&json!({ "copy": bytes })).await
    }

    async fn ask(&mut self, ask: &Value) -> Result<Told> {
        self.input.write_all(format!("{ask}\n").as_bytes()).await?;
        Ok(serde_json::from_str(&self.line().await?)?)
    }

    async fn line(&mut self) -> Result<String> {
        let line = self.output.next_line().await?;
        line.context("the engine by itself ended")
    }
}
