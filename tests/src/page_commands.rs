//! The commands that pages tell people to type, and who runs them.
//!
//! Lines of grpcurl are run by grpcurl itself where Go is there to make it. Elsewhere `buf curl` runs them, which
//! speaks to the same reflection.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Output, Stdio},
};

use anyhow::{Context, Result, bail};
use tokio::{process::Command, task::spawn_blocking, time::timeout};

use crate::{
    server::{DEADLINE, TestServer},
    tools,
};

/// Where pages say that a server is.
const MAIN: &str = "localhost:50051";
const OPS: &str = "localhost:9464";

/// Runs lines of grpcurl.
#[derive(Clone, Debug)]
pub enum Grpcurl {
    /// By itself.
    Itself(PathBuf),
    /// By `buf curl`.
    Buf(PathBuf),
}

/// The commands of a page's shell blocks, each on one line.
pub fn commands(text: &str) -> Vec<String> {
    let mut shell = false;
    let mut commands = Vec::new();
    let mut command = String::new();
    for line in text.lines() {
        if line.starts_with("```") {
            shell = line == "```sh";
        } else if shell && !line.trim().is_empty() {
            let line = line.trim();
            command.push_str(line.trim_end_matches('\\'));
            if !line.ends_with('\\') {
                commands.push(std::mem::take(&mut command));
            }
        }
    }
    commands
}

/// The words of a command, without their quotes.
pub fn words(line: &str) -> Vec<String> {
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

impl Grpcurl {
    /// Finds or makes it.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub async fn new() -> Result<Self> {
        if let Some(grpcurl) = spawn_blocking(tools::grpcurl).await?? {
            return Ok(Self::Itself(grpcurl));
        }
        Ok(Self::Buf(spawn_blocking(tools::buf).await??))
    }

    /// Runs a line, whose addresses stand for those of `hangar`, and makes sure that it did what it is for: it
    /// succeeded, or its time was over, and it printed something.
    ///
    /// # Errors
    ///
    /// When it did not.
    pub async fn run(&self, line: &str, server: &TestServer) -> Result<String> {
        self.run_at(line, server.listen(), server.ops_listen())
            .await
    }

    /// As [`Self::run`], with the server's addresses.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    pub async fn run_at(&self, line: &str, main: SocketAddr, ops: SocketAddr) -> Result<String> {
        let line = line
            .replace(MAIN, &main.to_string())
            .replace(OPS, &ops.to_string());
        let output = self.output(&words(&line)[1..]).await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).to_lowercase();
        // A watch goes on until its time is over.
        let ended = if line.contains("-max-time") {
            errors.contains("deadline")
        } else {
            output.status.success()
        };
        anyhow::ensure!(ended, "{line}\n{text}\n{errors}");
        anyhow::ensure!(!text.is_empty(), "{line} says nothing");
        Ok(text)
    }

    /// What it prints with these arguments of grpcurl.
    ///
    /// # Errors
    ///
    /// When it does not end in time.
    pub async fn output(&self, arguments: &[String]) -> Result<Output> {
        let mut command = match self {
            Self::Itself(grpcurl) => {
                let mut command = Command::new(grpcurl);
                command.args(arguments);
                command
            }
            Self::Buf(buf) => {
                let mut command = Command::new(buf);
                command.args(buf_arguments(arguments)?);
                command
            }
        };
        command
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        Ok(timeout(DEADLINE, command.output()).await??)
    }
}

/// The arguments of `buf curl` that do what these arguments of grpcurl do.
fn buf_arguments(grpcurl: &[String]) -> Result<Vec<String>> {
    let mut arguments = vec!["curl".to_owned(), "--http2-prior-knowledge".to_owned()];
    arguments.extend(["--protocol".to_owned(), "grpc".to_owned()]);
    let mut rest = grpcurl.iter();
    let (mut server, mut method) = (None, None);
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
            "list" => method = Some((String::new(), "--list-services")),
            // The methods of all services; grpcurl shows those of the one that follows.
            "describe" => {
                rest.next().context("a name")?;
                method = Some((String::new(), "--list-methods"));
            }
            name if name.contains('/') => method = Some((name.to_owned(), "")),
            address if address.contains(':') => server = Some(format!("http://{address}")),
            other => bail!("what does grpcurl do with {other}?"),
        }
    }
    let (path, flag) = method.context("no method")?;
    arguments.extend(Some(flag.to_owned()).filter(|flag| !flag.is_empty()));
    arguments.push(format!("{}/{path}", server.context("no server")?));
    Ok(arguments)
}
