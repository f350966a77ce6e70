//! How a server is started.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use hangar_client::{
    convert::to_proto_duration,
    v1::{ModelSpec, RestartMode, RestartPolicy, model_source::Source},
};

use super::binaries::binary;
use crate::{driver::Driver, fixtures::Fixtures};

/// The shortest wait between two attempts that a spec may ask for.
const SHORTEST_BACKOFF: Duration = Duration::from_millis(10);

/// How a server is started. Time-outs that a test does not set are the server's own.
#[derive(Clone, Debug, Default)]
pub struct Options {
    program: Program,
    worker: Worker,
    data_dir: Option<PathBuf>,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
}

/// Which build of the server runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Program {
    /// The one that is released.
    #[default]
    Hangar,
    /// The one with failpoints and debug assertions.
    Checked,
}

/// Which worker a server starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Worker {
    /// The real one.
    #[default]
    Real,
    /// One that does what the script in the model's directory says.
    Scripted,
    /// This one.
    At(PathBuf),
}

impl Options {
    /// A server that may load these models.
    pub fn new(fixtures: &Fixtures) -> Self {
        Self::default().root(&fixtures.root())
    }

    /// As [`Self::new`], with the scripted worker.
    pub fn scripted(fixtures: &Fixtures) -> Self {
        Self::new(fixtures).worker(Worker::Scripted)
    }

    /// Chooses the worker.
    pub fn worker(mut self, worker: Worker) -> Self {
        self.worker = worker;
        self
    }

    /// The build of the server that has debug assertions and failpoints.
    pub fn checked(mut self) -> Self {
        self.program = Program::Checked;
        self
    }

    /// Name of the server's binary.
    pub(super) fn binary(&self) -> &'static str {
        match self.program {
            Program::Hangar => "hangar",
            Program::Checked => "hangar-failpoints",
        }
    }

    /// Adds a model root.
    pub fn root(self, path: &Path) -> Self {
        self.argument("--model-root").argument(path)
    }

    /// Keeps the data here, so that it outlives the server.
    pub fn data_in(mut self, path: &Path) -> Self {
        self.data_dir = Some(path.to_path_buf());
        self
    }

    /// Adds an argument of the command line.
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets a flag such as "--hang-timeout" to a time.
    pub fn time(self, flag: &str, time: Duration) -> Self {
        self.argument(flag)
            .argument(format!("{}ms", time.as_millis()))
    }

    /// With this driver, and with scripted workers that play CUDA workers.
    ///
    /// # Errors
    ///
    /// When there is no scripted worker.
    pub fn with_gpus(self, driver: &Driver) -> Result<Self> {
        let worker = binary("scripted-worker")?;
        Ok(self
            .with_driver(driver)
            .argument("--worker-cuda")
            .argument(worker))
    }

    /// With this driver.
    pub fn with_driver(self, driver: &Driver) -> Self {
        self.env("LD_LIBRARY_PATH", driver.path().to_string_lossy())
    }

    /// Sets a variable of the server's environment, which is otherwise empty.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn data_dir(&self, directory: &Path) -> PathBuf {
        self.data_dir
            .clone()
            .unwrap_or_else(|| directory.join("data"))
    }

    pub(super) fn arguments(&self) -> Result<Vec<OsString>> {
        let worker = match &self.worker {
            Worker::Real => binary("hangar-worker")?,
            Worker::Scripted => binary("scripted-worker")?,
            Worker::At(path) => path.clone(),
        };
        let mut arguments = vec!["--worker".into(), worker.into_os_string()];
        arguments.extend(self.arguments.iter().cloned());
        Ok(arguments)
    }

    pub(super) fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// A spec for a model at this path, which is tried so many times in a row, at intervals of about 10 ms.
pub fn restarting(path: &Path, mode: RestartMode, attempts: u32) -> ModelSpec {
    ModelSpec {
        restart_policy: Some(RestartPolicy {
            mode: mode.into(),
            max_attempts: attempts,
            initial_backoff: Some(to_proto_duration(SHORTEST_BACKOFF)),
            max_backoff: Some(to_proto_duration(SHORTEST_BACKOFF)),
            ..RestartPolicy::default()
        }),
        ..spec(path)
    }
}

/// A spec for a model at this path, which is not restarted when it fails.
pub fn spec(path: &Path) -> ModelSpec {
    let path = path.to_string_lossy().into_owned();
    ModelSpec {
        source: Some(Source::Path(path).into()),
        restart_policy: Some(RestartPolicy {
            mode: RestartMode::Never.into(),
            ..RestartPolicy::default()
        }),
        ..ModelSpec::default()
    }
}
