//! A real `hangar serve` process for a test.
//!
//! It listens on ports of its own, keeps its data in a temporary directory, and ends with the test:
//! dropping a [`TestServer`] kills and reaps it. What it logged is printed with a test that fails.
//!
//! Most tests have one model, [`MODEL`]: what it is, and what it does when it is scripted, the builder is told.

mod binaries;
mod builder;
mod fleet;
mod held;
mod loaded;
mod model;
mod process;
mod transitions;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Context, Result};
pub use binaries::binary;
pub(crate) use binaries::build_directory;
pub use builder::{TestServerBuilder, Worker};
pub use fleet::answer;
use hangar_client::{Client, WatchEvent};
pub use held::HeldModel;
pub use model::{restarting, spec};
pub use process::EndedAtStart;
use process::ServerProcess;
use rustix::process::Signal;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::timeout,
};
pub use transitions::Transitions;

use crate::{fixtures::Fixtures, processes, stubs::Stubs};

/// Longest wait for something that is sure to come, on a machine that is slow and has other things to do. No test's
/// outcome depends on what it is, unless something hangs.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// A limit of the server's that is not reached while a test waits for something: what happens meanwhile has another
/// cause.
pub const NEVER: Duration = Duration::from_secs(3600);

/// The model that most tests have.
pub const MODEL: &str = "m";

/// A running server, a client of it, and the models that it may load.
#[derive(Debug)]
pub struct TestServer {
    // First: it ends before what it uses goes.
    process: ServerProcess,
    /// A client of it, which connects with its first call.
    pub client: Client,
    /// Its stubs.
    pub stubs: Stubs,
    /// Where models are.
    pub fixtures: Fixtures,
    /// Directory of the model `m`, if it is a scripted one.
    pub directory: PathBuf,
}

impl TestServer {
    async fn start(options: &TestServerBuilder, fixtures: Fixtures) -> Result<Self> {
        let process = ServerProcess::start(options, &fixtures).await?;
        let client = Client::connect_lazy(format!("http://{}", process.listen()))?;
        Ok(Self {
            process,
            stubs: Stubs::new(&client),
            client,
            directory: fixtures.root().join(MODEL),
            fixtures,
        })
    }

    /// Address of the main port.
    pub fn listen(&self) -> SocketAddr {
        self.process.listen()
    }

    /// Address of the main port as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.listen())
    }

    /// Address of the ops port.
    pub fn ops_listen(&self) -> SocketAddr {
        self.process.ops_listen()
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Directory of the server's data.
    pub fn data_dir(&self) -> &Path {
        self.process.data_dir()
    }

    /// What the server has logged so far.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        self.process.log()
    }

    /// Reads the log that nobody has read so far, up to a line with these `words`, which is given.
    ///
    /// # Errors
    ///
    /// When there is no such line within [`DEADLINE`], or the log is in a file.
    pub async fn read_log(&mut self, words: &str) -> Result<String> {
        let mut lines = BufReader::new(self.process.log_pipe()?).lines();
        let find = async {
            loop {
                let line = lines.next_line().await?.context("the log ended")?;
                if line.contains(words) {
                    return anyhow::Ok(line);
                }
            }
        };
        let found = timeout(DEADLINE, find).await;
        found.with_context(|| format!("{words:?} is not in the log"))?
    }

    /// A client with a connection of its own.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub async fn connect(&self) -> Result<Client> {
        Ok(Client::connect(self.url()).await?)
    }

    /// Follows a model from now on; it need not be known yet.
    ///
    /// # Errors
    ///
    /// When the watch cannot be opened.
    pub async fn follow(&self, model_id: &str) -> Result<Transitions> {
        let mut watch = self.connect().await?.watch().model(model_id).stream();
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
        processes::signal(self.pid(), signal)
            .with_context(|| format!("signalling the server {}", self.pid()))
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
    pub fn kill(self) -> Result<ExitStatus> {
        self.process.kill()
    }

    /// Kills the server as a power cut would, and starts another one.
    ///
    /// # Errors
    ///
    /// When that does not start.
    pub async fn killed_and_started(self, next: &TestServerBuilder) -> Result<Self> {
        self.kill()?;
        next.start().await
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
    pub async fn ended_with_log(self, within: Duration) -> Result<(ExitStatus, String)> {
        self.process.ended_with_log(within).await
    }
}
