//! mistral.rs in one process: the worker package's example `in_process`, which measures itself.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use hangar_tests::hangar::{DEADLINE, binary};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::Told;

/// The program with a loaded model. It ends with its input, at the latest when this is dropped.
pub(super) struct InProcess {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

/// A line of the program.
#[derive(Deserialize)]
struct Line {
    text: String,
    tokens: u32,
    first: f64,
    whole: f64,
}

// === impl InProcess ===

impl InProcess {
    /// Loads the model at `path` as `dtype`.
    pub(super) async fn start(path: &Path, dtype: &str) -> Result<Self> {
        let mut child = Command::new(binary("examples/in_process")?)
            .arg(path)
            .arg(dtype)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().context("no standard input")?;
        let output = child.stdout.take().context("no standard output")?;
        let mut program = Self {
            child,
            input,
            output: BufReader::new(output).lines(),
        };
        program.line().await?;
        Ok(program)
    }

    /// Asks it, and gives what it has measured.
    pub(super) async fn ask(&mut self, prompt: &str, tokens: u32) -> Result<Told> {
        let ask = json!({"prompt": prompt, "max_tokens": tokens});
        self.input.write_all(format!("{ask}\n").as_bytes()).await?;
        let line: Line = serde_json::from_str(&self.line().await?)?;
        Ok(Told {
            text: line.text,
            tokens: line.tokens,
            first: Duration::from_secs_f64(line.first),
            whole: Duration::from_secs_f64(line.whole),
        })
    }

    /// Its process.
    pub(super) fn pid(&self) -> Result<u32> {
        self.child.id().context("the program ended")
    }

    /// Ends it.
    pub(super) async fn end(self) -> Result<()> {
        let Self {
            mut child, input, ..
        } = self;
        drop(input);
        let status = timeout(DEADLINE, child.wait()).await??;
        anyhow::ensure!(status.success(), "the program ended with {status}");
        Ok(())
    }

    async fn line(&mut self) -> Result<String> {
        let line = timeout(DEADLINE, self.output.next_line()).await??;
        line.context("the program ended")
    }
}
