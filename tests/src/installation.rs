//! Servers that live one after another on one data directory.

use std::{collections::BTreeSet, path::Path, time::Duration};

use anyhow::Result;
use procfs::process::all_processes;

use crate::{
    fixtures::Fixtures,
    processes,
    scripted::Script,
    server::{DEADLINE, TestServer, TestServerBuilder},
};

/// What the servers have in common: models, a data directory and how they are started.
#[derive(Debug)]
pub struct Installation {
    /// Where models are.
    pub fixtures: Fixtures,
    directory: tempfile::TempDir,
    options: TestServerBuilder,
}

impl Installation {
    /// Servers with the real worker.
    ///
    /// # Errors
    ///
    /// When the directories cannot be made.
    pub fn real() -> Result<Self> {
        Self::of(TestServer::real())
    }

    /// Servers with the scripted worker.
    ///
    /// # Errors
    ///
    /// As [`Self::real`].
    pub fn scripted() -> Result<Self> {
        Self::of(TestServer::scripted())
    }

    fn of(options: TestServerBuilder) -> Result<Self> {
        let fixtures = Fixtures::new()?;
        let directory = tempfile::Builder::new().prefix("hangar-").tempdir()?;
        let options = options
            .fixtures(&fixtures)
            .data_in(directory.path())
            // Workers get this variable too, which tells them from those of other tests.
            .env("TMPDIR", directory.path().to_string_lossy());
        Ok(Self {
            fixtures,
            directory,
            options,
        })
    }

    /// Starts the next server.
    ///
    /// # Errors
    ///
    /// When it does not serve.
    pub async fn start(&self) -> Result<TestServer> {
        self.options.start().await
    }

    /// As [`Self::start`], with other options.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub async fn with(
        &self,
        change: impl FnOnce(TestServerBuilder) -> TestServerBuilder,
    ) -> Result<TestServer> {
        change(self.options.clone()).start().await
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        self.directory.path()
    }

    /// Kills a server as a power cut would, and waits until its workers have noticed.
    ///
    /// # Errors
    ///
    /// When a worker has not ended by itself within [`DEADLINE`].
    pub async fn kill(&self, server: TestServer) -> Result<()> {
        server.kill()?;
        self.no_process_left(DEADLINE).await
    }

    /// A model's directory whose model does what the script says.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn model(&self, name: &str, script: &Script) -> Result<std::path::PathBuf> {
        self.fixtures.scripted(name, script)
    }

    /// Waits until no process of these servers and their workers is left.
    ///
    /// # Errors
    ///
    /// When one is left.
    pub async fn no_process_left(&self, within: Duration) -> Result<()> {
        let mut left = BTreeSet::new();
        let gone = processes::eventually("no worker of a killed server is left", within, || {
            left = self.processes();
            left.is_empty().then_some(())
        });
        gone.await
            .map_err(|error| error.context(format!("processes {left:?}")))
    }

    /// Processes of these servers and their workers that have not ended.
    pub fn processes(&self) -> BTreeSet<u32> {
        let mark = self.data_dir().as_os_str();
        let processes = all_processes().into_iter().flatten().flatten();
        let ours = processes.filter(|process| {
            let environment = process.environ().unwrap_or_default();
            environment
                .get(std::ffi::OsStr::new("TMPDIR"))
                .is_some_and(|value| value == mark)
        });
        let pids = ours.filter_map(|process| u32::try_from(process.pid).ok());
        pids.filter(|pid| processes::is_running(*pid)).collect()
    }

    /// Sockets in the runtime directory.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn sockets(&self) -> Result<usize> {
        let entries = std::fs::read_dir(self.data_dir().join("run"))?;
        let paths = entries.flatten().map(|entry| entry.path());
        Ok(paths
            .filter(|path| path.extension().is_some_and(|suffix| suffix == "sock"))
            .count())
    }
}
