//! A real `hangar serve` process for a test.
//!
//! It listens on ports of its own, keeps its data in a temporary directory, and ends with the test:
//! dropping a [`Hangar`] kills and reaps it. What it logged is printed with a test that fails.

mod binaries;
mod options;
mod transitions;
mod watchdog;

pub use binaries::binary;
pub(crate) use binaries::build_directory;
pub use options::{Options, Worker, restarting, spec};
pub use transitions::Transitions;

use std::{
    fs::{self, File},
    net::SocketAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use hangar_client::{Client, WatchEvent};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::unix::pipe::Receiver,
    time::timeout,
};

use crate::processes;
use watchdog::Watchdog;

/// Longest wait for something that is sure to come, on a machine that is slow and has other things to do. No test's
/// outcome depends on what it is, unless something hangs.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// A limit of the server's that is not reached while a test waits for something: what happens meanwhile has another
/// cause.
pub const NEVER: Duration = Duration::from_secs(3600);

/// A running server.
#[derive(Debug)]
pub struct Hangar {
    child: Child,
    announcement: Announcement,
    directory: tempfile::TempDir,
    data_dir: PathBuf,
    /// Kept open, so that the server can go on writing to it.
    _output: BufReader<Receiver>,
    _watchdog: Watchdog,
}

/// The line that the server prints once it serves.
#[derive(Clone, Debug, Deserialize)]
struct Announcement {
    listen: SocketAddr,
    ops_listen: SocketAddr,
    pid: u32,
}

/// A server that does not serve yet. Killed and reaped when dropped.
struct Starting(Option<Child>);

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // Both fail only when it was reaped before.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Hangar {
    /// Starts a server and waits until it serves. Dropping the future kills the server.
    ///
    /// # Errors
    ///
    /// When the binaries cannot be built, or the server ends or does not serve within [`DEADLINE`];
    /// its log is in the error.
    pub async fn start(options: Options) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("hangar-").tempdir()?;
        let data_dir = options.data_dir(directory.path());
        let child = command(&options, &data_dir, directory.path())?.spawn()?;
        let mut child = Starting(Some(child));
        let output = child
            .0
            .as_mut()
            .context("there is no process")?
            .stdout
            .take()
            .context("the server has no standard output")?;
        let mut output = BufReader::new(Receiver::from_owned_fd(OwnedFd::from(output))?);
        let mut line = String::new();
        let read = timeout(DEADLINE, output.read_line(&mut line)).await;
        let announcement = match read {
            Ok(Ok(1..)) => serde_json::from_str(&line).context("the server's first line"),
            Ok(Ok(_)) => Err(anyhow::anyhow!("the server ended")),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(anyhow::anyhow!("the server does not serve")),
        };
        let announcement = match announcement {
            Ok(announcement) => announcement,
            Err(error) => {
                drop(child);
                return Err(error.context(fs::read_to_string(log(directory.path()))?));
            }
        };
        let server = Pid::from_child(child.0.as_ref().context("there is no process")?);
        Ok(Self {
            _watchdog: Watchdog::start(server, log(directory.path()))?,
            child: child.0.take().context("there is no process")?,
            announcement,
            directory,
            data_dir,
            _output: output,
        })
    }

    /// Address of the main port.
    pub fn listen(&self) -> SocketAddr {
        self.announcement.listen
    }

    /// Address of the main port as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.listen())
    }

    /// Address of the ops port.
    pub fn ops_listen(&self) -> SocketAddr {
        self.announcement.ops_listen
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.announcement.pid
    }

    /// Directory of the server's data.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// What the server has logged so far.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(log(self.directory.path()))?)
    }

    /// A client with a connection of its own.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::connect(self.url()).await?)
    }

    /// Follows a model from now on; it need not be known yet.
    ///
    /// # Errors
    ///
    /// When the watch cannot be opened.
    pub async fn follow(&self, model_id: &str) -> Result<Transitions> {
        let mut watch = self.client().await?.watch().model(model_id).stream();
        match timeout(DEADLINE, watch.next())
            .await?
            .context("the watch ended")??
        {
            WatchEvent::Snapshot { models, .. } => Ok(Transitions::new(watch, models.into_iter())),
            event => anyhow::bail!("the watch began with {event:?}"),
        }
    }

    /// Sends a signal to the server.
    ///
    /// # Errors
    ///
    /// When the server is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("signalling the server {pid:?}"))
    }

    /// Asks the server to end, waits until it has, and makes sure that no worker is left.
    ///
    /// # Errors
    ///
    /// When it has not ended within [`DEADLINE`], or a worker is alive after it.
    pub async fn terminate(self) -> Result<ExitStatus> {
        let workers = processes::children(self.pid())?;
        self.signal(Signal::TERM)?;
        let status = self.ended(DEADLINE).await?;
        for worker in workers {
            anyhow::ensure!(
                !processes::is_running(worker),
                "worker {worker} outlived the server"
            );
        }
        Ok(status)
    }

    /// Kills the server and reaps it.
    ///
    /// # Errors
    ///
    /// When it cannot be reaped.
    pub fn kill(mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// Waits until the server has ended by itself, and reaps it.
    ///
    /// # Errors
    ///
    /// When it has not ended in time.
    pub async fn ended(self, within: Duration) -> Result<ExitStatus> {
        Ok(self.ended_with_log(within).await?.0)
    }

    /// As [`Self::ended`], and gives what the server has logged.
    ///
    /// # Errors
    ///
    /// As [`Self::ended`].
    pub async fn ended_with_log(mut self, within: Duration) -> Result<(ExitStatus, String)> {
        processes::ended(self.child.id(), within)
            .await
            .context("waiting for the server")?;
        Ok((self.child.wait()?, self.log()?))
    }
}

impl Drop for Hangar {
    fn drop(&mut self) {
        // Both fail only when the server was reaped before.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Shown for a test that fails only: the test harness swallows it otherwise.
        if let Ok(log) = self.log() {
            eprintln!("--- log of the server {} ---\n{log}--- end ---", self.pid());
        }
    }
}

fn command(options: &Options, data_dir: &Path, directory: &Path) -> Result<Command> {
    let mut command = Command::new(binary(options.binary())?);
    command
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--ops-listen",
            "127.0.0.1:0",
        ])
        .arg("--data-dir")
        .arg(data_dir)
        .args(options.arguments()?)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", directory)
        .envs(options.environment())
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(log(directory))?);
    Ok(command)
}

fn log(directory: &Path) -> PathBuf {
    directory.join("server.log")
}
