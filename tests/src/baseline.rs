//! mistral.rs by itself, in one process: the worker package's example `baseline`, which measures itself.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{
    server::{DEADLINE, binary},
    timed::TimedAnswer,
};

/// How long a load, an answer and a copy may take.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);

/// The program with a loaded model. It ends with its input, at the latest when this is dropped.
pub struct Baseline {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Baseline {
    /// Whether the program for a device, "cpu", "cuda" or "cuda:N", was built.
    #[must_use]
    pub fn is_there(device: &str) -> bool {
        program(device).is_ok()
    }

    /// Loads the model at `path` on a device as `dtype`: "f32", "f16" or "bf16".
    ///
    /// # Errors
    ///
    /// When the program is not there or does not load the model within [`ANSWER_TIMEOUT`].
    pub async fn start(path: &Path, device: &str, dtype: &str) -> Result<Self> {
        let mut process = Command::new(program(device)?)
            .arg(path)
            .args([dtype, device])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()?;
        let input = process.stdin.take().context("no standard input")?;
        let output = process.stdout.take().context("no standard output")?;
        let mut baseline = Self {
            process,
            input,
            output: BufReader::new(output).lines(),
        };
        let line = baseline.line().await?;
        let ready: Value = serde_json::from_str(&line)?;
        ensure!(ready.get("ready").is_some(), "it said {line}");
        Ok(baseline)
    }

    /// A greedy answer, and what it took.
    ///
    /// # Errors
    ///
    /// When the program fails or does not answer within [`ANSWER_TIMEOUT`].
    pub async fn answer(&mut self, prompt: &str, tokens: u32) -> Result<TimedAnswer> {
        self.ask(&json!({ "prompt": prompt, "max_tokens": tokens }))
            .await
    }

    /// What a copy of so many bytes from ordinary memory to the device took.
    ///
    /// # Errors
    ///
    /// When the program fails or does not answer within [`ANSWER_TIMEOUT`].
    pub async fn copy(&mut self, bytes: usize) -> Result<TimedAnswer> {
        self.ask(&json!({ "copy": bytes })).await
    }

    /// Its process.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn pid(&self) -> Result<u32> {
        self.process.id().context("the engine by itself ended")
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// When it fails at its end.
    pub async fn end(self) -> Result<()> {
        let Self {
            mut process, input, ..
        } = self;
        drop(input);
        let status = timeout(DEADLINE, process.wait()).await??;
        ensure!(status.success(), "the engine by itself ended with {status}");
        Ok(())
    }

    async fn ask(&mut self, ask: &Value) -> Result<TimedAnswer> {
        self.input.write_all(format!("{ask}\n").as_bytes()).await?;
        Ok(serde_json::from_str(&self.line().await?)?)
    }

    async fn line(&mut self) -> Result<String> {
        let line = timeout(ANSWER_TIMEOUT, self.output.next_line()).await??;
        line.context("the engine by itself ended")
    }
}

fn program(device: &str) -> Result<PathBuf> {
    binary(match device {
        "cpu" => "examples/baseline",
        _ => "examples/baseline-cuda",
    })
}
