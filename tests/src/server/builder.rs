//! How a server is started.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;
use hangar_client::v1::ModelSpec;

use super::{TestServer, binaries::binary, spec};
use crate::{
    failpoints::Failpoints, fixtures::Fixtures, hub::TestHub, nvml_stub::GpuDriver,
    scripted::Script,
};

/// How a server is started, as often as is wanted. Time-outs that a test does not set are the server's own.
#[derive(Clone, Debug, Default)]
pub struct TestServerBuilder {
    program: Program,
    worker: Worker,
    fixtures: Option<Fixtures>,
    roots: Roots,
    script: Option<Script>,
    data_dir: Option<PathBuf>,
    one_processor: bool,
    subreaper: bool,
    unread_log: bool,
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

/// What a server may load from disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Roots {
    /// Its fixtures.
    #[default]
    Fixtures,
    /// What other options say.
    Others,
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

impl TestServer {
    /// A server with the real worker.
    pub fn real() -> TestServerBuilder {
        TestServerBuilder::default()
    }

    /// A server with the scripted worker.
    pub fn scripted() -> TestServerBuilder {
        Self::real().worker(Worker::Scripted)
    }

    /// A server with debug assertions and the scripted worker, whose model `m` does what the script says.
    pub fn checked(script: &Script) -> TestServerBuilder {
        Self::scripted().checked().script(script)
    }
}

impl TestServerBuilder {
    /// Starts the server and waits until it serves. Dropping the future kills the server.
    ///
    /// # Errors
    ///
    /// When the binaries cannot be built, or the server ends or does not serve within [`super::DEADLINE`];
    /// its log is in the error.
    pub async fn start(&self) -> Result<TestServer> {
        let fixtures = match &self.fixtures {
            Some(fixtures) => fixtures.clone(),
            None => Fixtures::new()?,
        };
        if let Some(script) = &self.script {
            fixtures.scripted(super::MODEL, script)?;
        }
        TestServer::start(self, fixtures).await
    }

    /// As [`Self::start`], and loads the model `m` at this path with a changed spec.
    ///
    /// # Errors
    ///
    /// As [`Self::start`]; also when the model cannot be loaded.
    pub async fn serving(
        &self,
        path: &Path,
        change: impl FnOnce(&mut ModelSpec),
    ) -> Result<TestServer> {
        let server = self.start().await?;
        let mut spec = spec(path);
        change(&mut spec);
        server.client.load(super::MODEL).spec(spec).wait().await?;
        Ok(server)
    }

    /// The models that it may load; without this some of its own, which end with it.
    pub fn fixtures(mut self, fixtures: &Fixtures) -> Self {
        self.fixtures = Some(fixtures.clone());
        self
    }

    /// Has the model `m` do what the script says.
    pub fn script(mut self, script: &Script) -> Self {
        self.script = Some(script.clone());
        self
    }

    /// Chooses the worker.
    pub fn worker(mut self, worker: Worker) -> Self {
        self.worker = worker;
        self
    }

    /// On one processor only, with its workers.
    pub fn on_one_processor(mut self) -> Self {
        self.one_processor = true;
        self
    }

    /// The server is handed what its workers leave behind, as process 1 of a container is.
    pub fn as_subreaper(mut self) -> Self {
        self.subreaper = true;
        self
    }

    /// The server logs into a pipe that nobody reads before [`TestServer::read_log`].
    pub fn with_unread_log(mut self) -> Self {
        self.unread_log = true;
        self
    }

    /// The build of the server that has debug assertions and failpoints.
    pub fn checked(mut self) -> Self {
        self.program = Program::Checked;
        self
    }

    /// The build of the server that has debug assertions, with these orders.
    pub fn failpoints(self, failpoints: &Failpoints) -> Self {
        self.checked()
            .env("HANGAR_FAILPOINTS", failpoints.path().to_string_lossy())
    }

    /// With the hub that others play.
    pub fn hub(self, hub: &TestHub) -> Self {
        hub.options(self)
    }

    /// Changes it in a way that others gave.
    pub fn with(self, change: impl FnOnce(Self) -> Self) -> Self {
        change(self)
    }

    /// Takes the fixtures from what it may load.
    pub fn without_root(mut self) -> Self {
        self.roots = Roots::Others;
        self
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
    pub fn with_gpus(self, driver: &GpuDriver) -> Result<Self> {
        let worker = binary("scripted-worker")?;
        Ok(self
            .with_driver(driver)
            .argument("--worker-cuda")
            .argument(worker))
    }

    /// With this driver.
    pub fn with_driver(self, driver: &GpuDriver) -> Self {
        self.env("LD_LIBRARY_PATH", driver.path().to_string_lossy())
    }

    /// Sets a variable of the server's environment, which is otherwise empty.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// What runs the server, as yet without arguments of its own.
    pub(super) fn command(&self) -> Result<Command> {
        let server = binary(match self.program {
            Program::Hangar => "hangar",
            Program::Checked => "hangar-failpoints",
        })?;
        if !self.subreaper {
            return Ok(Command::new(server));
        }
        let mut command = Command::new(binary("subreaper")?);
        command.arg(server);
        Ok(command)
    }

    pub(super) fn data_dir(&self, directory: &Path) -> PathBuf {
        self.data_dir
            .clone()
            .unwrap_or_else(|| directory.join("data"))
    }

    pub(super) fn arguments(&self, fixtures: &Fixtures) -> Result<Vec<OsString>> {
        let worker = match &self.worker {
            Worker::Real => binary("hangar-worker")?,
            Worker::Scripted => binary("scripted-worker")?,
            Worker::At(path) => path.clone(),
        };
        let mut arguments = vec!["--worker".into(), worker.into_os_string()];
        if self.roots == Roots::Fixtures {
            arguments.push("--model-root".into());
            arguments.push(fixtures.root().into_os_string());
        }
        arguments.extend(self.arguments.iter().cloned());
        Ok(arguments)
    }

    pub(super) fn has_unread_log(&self) -> bool {
        self.unread_log
    }

    pub(super) fn is_on_one_processor(&self) -> bool {
        self.one_processor
    }

    pub(super) fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}
