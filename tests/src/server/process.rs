//! The process of a server.

use std::{
    fmt,
    fs::{self, File},
    net::SocketAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use bounded::CleanupGuard;
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::unix::pipe::Receiver,
    time::timeout,
};

use super::{DEADLINE, TestServerBuilder};
use crate::{fixtures::Fixtures, processes};

/// The process of a server that serves. Killed and reaped when dropped.
#[derive(Debug)]
pub(super) struct ServerProcess {
    child: Child,
    announcement: Announcement,
    directory: tempfile::TempDir,
    data_dir: PathBuf,
    /// Kept open, so that the server can go on writing to it.
    _output: BufReader<Receiver>,
    _cleanup: CleanupGuard,
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

/// A server that ended before it served.
#[derive(Clone, Copy, Debug)]
pub struct EndedAtStart(pub ExitStatus);

impl fmt::Display for EndedAtStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server ended: {}", self.0)
    }
}

impl std::error::Error for EndedAtStart {}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // Both fail only when it was reaped before.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl ServerProcess {
    pub(super) async fn start(options: &TestServerBuilder, fixtures: &Fixtures) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("hangar-").tempdir()?;
        let data_dir = options.data_dir(directory.path());
        let mut command = command(options, fixtures, &data_dir, directory.path())?;
        let child = match options.is_on_one_processor() {
            true => on_one_processor(|| command.spawn())?,
            false => command.spawn(),
        }?;
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
            Ok(Ok(_)) => match child.0.as_mut().map(Child::wait).transpose()? {
                Some(status) => Err(EndedAtStart(status).into()),
                None => Err(anyhow::anyhow!("there is no process")),
            },
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
            _cleanup: clean_up(server, log(directory.path())),
            child: child.0.take().context("there is no process")?,
            announcement,
            directory,
            data_dir,
            _output: output,
        })
    }

    pub(super) fn listen(&self) -> SocketAddr {
        self.announcement.listen
    }

    pub(super) fn ops_listen(&self) -> SocketAddr {
        self.announcement.ops_listen
    }

    pub(super) fn pid(&self) -> u32 {
        self.announcement.pid
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(super) fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(log(self.directory.path()))?)
    }

    /// What the server logs from now on, if it logs into a pipe.
    pub(super) fn log_pipe(&mut self) -> Result<Receiver> {
        let pipe = self.child.stderr.take().context("the log is in a file")?;
        Ok(Receiver::from_owned_fd(OwnedFd::from(pipe))?)
    }

    pub(super) fn kill(mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    pub(super) async fn ended_with_log(mut self, within: Duration) -> Result<(ExitStatus, String)> {
        processes::ended(self.child.id(), within)
            .await
            .context("waiting for the server")?;
        Ok((self.child.wait()?, self.log()?))
    }
}

impl Drop for ServerProcess {
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

fn command(
    options: &TestServerBuilder,
    fixtures: &Fixtures,
    data_dir: &Path,
    directory: &Path,
) -> Result<Command> {
    let mut command = options.command()?;
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
        .args(options.arguments(fixtures)?)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", directory)
        .envs(options.environment())
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(log(directory))?);
    if options.has_unread_log() {
        command.stderr(Stdio::piped());
    }
    Ok(command)
}

/// What `work` comes to. Processes that it starts stay on one processor.
fn on_one_processor<T>(work: impl FnOnce() -> T) -> Result<T> {
    let all = sched_getaffinity(None)?;
    let first = (0..CpuSet::MAX_CPU).find(|processor| all.is_set(*processor));
    let mut one = CpuSet::new();
    one.set(first.context("there is no processor")?);
    sched_setaffinity(None, &one)?;
    let done = work();
    sched_setaffinity(None, &all)?;
    Ok(done)
}

/// When a test takes too long, this server is killed and its log shown.
fn clean_up(server: Pid, log: PathBuf) -> CleanupGuard {
    bounded::clean_up(move || {
        let _ = kill_process(server, Signal::KILL);
        let log = fs::read_to_string(&log).unwrap_or_default();
        format!("--- log of the server {server:?} ---\n{log}--- end ---\n")
    })
}

fn log(directory: &Path) -> PathBuf {
    directory.join("server.log")
}
