//! Configuration: what the command line, the environment and the configuration file say.
//!
//! Invariant: a setting comes from its flag, else its environment variable, else its key in the file,
//! else its default, and a [`Settings`] that exists has been checked as a whole.

mod directories;
mod error;
mod hub;
mod layer;
mod models;
mod resolve;
mod time_limits;
mod values;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
pub use error::ConfigError;
pub use layer::Layer;
pub use models::DeclaredModel;
pub use time_limits::TimeLimits;
pub use values::{LogFormat, Readiness};

use crate::{download::HubOptions, version::LONG_VERSION};

/// The command line of `hangar`.
#[derive(Debug, Parser)]
#[command(
    name = "hangar",
    version = LONG_VERSION,
    about = "Hosts mistral.rs models, each in a process of its own, behind one gRPC service",
    after_help = "Every setting can also be given in the environment (HANGAR_...) or in the \
                  file named by --config; the command line goes first, then the environment, \
                  then the file."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `hangar` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service until SIGTERM or Ctrl-C
    Serve(ServeArguments),
    /// Load, watch, ask and unload the built-in model; on a terminal, serve on then
    Demo(DemoArguments),
}

/// Arguments of `hangar serve`.
#[derive(Debug, Default, Args)]
pub struct ServeArguments {
    /// Settings.
    #[command(flatten)]
    pub settings: SettingsArguments,
}

/// Arguments of `hangar demo`.
#[derive(Debug, Default, Args)]
pub struct DemoArguments {
    /// Serve on after the demonstration, until SIGTERM or Ctrl-C [default: if standard input is a terminal]
    #[arg(long)]
    pub serve: bool,
    /// End after the demonstration: with status 0 if every step did what it says, else 1 [default: if standard
    /// input is no terminal]
    #[arg(long, conflicts_with = "serve")]
    pub exit: bool,
    /// Settings.
    #[command(flatten)]
    pub settings: SettingsArguments,
}

/// Where settings come from: flags, environment and a file.
#[derive(Clone, Debug, Default, Args)]
pub struct SettingsArguments {
    /// Configuration file (TOML); its keys are the names of the flags with underscores
    #[arg(long, short, env = "HANGAR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Flags and environment.
    #[command(flatten)]
    pub layer: Layer,
}

/// What the server runs with.
// Compared by tests only: what nobody else reads is a warning.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub struct Settings {
    /// Address of the main port: the gRPC API.
    pub listen: SocketAddr,
    /// Address of the ops port: metrics and health.
    pub ops_listen: SocketAddr,
    /// Whether addresses other than loopback may be bound without TLS and tokens.
    pub insecure_listen: bool,
    /// Most connections of a port at the same time.
    pub max_connections: usize,
    /// Largest request message in bytes.
    pub max_request_bytes: usize,
    /// Most memory of all requests together in bytes.
    pub max_request_memory: usize,
    /// Whether the reflection services are offered.
    pub reflection: bool,
    /// Directory of what outlives the server. Absolute.
    pub data_dir: PathBuf,
    /// Directory of the workers' sockets. Absolute, and short enough for a socket's path.
    pub runtime_dir: PathBuf,
    /// Directories that local models may be in. Absolute, without symbolic links.
    pub model_roots: Vec<PathBuf>,
    /// The model hub, and the cache of what comes from it.
    pub hub: HubOptions,
    /// The worker's binary. Absolute.
    pub worker: PathBuf,
    /// The binary of the workers for GPUs. Absolute; there need not be one.
    pub worker_cuda: PathBuf,
    /// Most loads at the same time on the CPU.
    pub max_concurrent_loads: usize,
    /// Most loads at the same time on each GPU.
    pub max_concurrent_device_loads: usize,
    /// Most registered models.
    pub max_models: usize,
    /// Memory that models may hold together, in bytes. `None`: what the machine or the container has.
    pub memory_limit: Option<u64>,
    /// Share of the memory above which idle models are unloaded, above 0 and at most 1.
    pub memory_high_watermark: f64,
    /// What readiness waits for.
    pub readiness: Readiness,
    /// Models that the configuration file declares.
    pub models: Vec<DeclaredModel>,
    /// Most bytes of prepared weights that are kept. Zero: none are.
    pub prepared_cache_size: u64,
    /// Requests of a model that run at the same time, where its spec does not say.
    pub default_max_concurrency: u32,
    /// Requests of a model that wait, where its spec does not say.
    pub default_max_queue: u32,
    /// How long things may take.
    pub time_limits: TimeLimits,
    /// Transitions kept for watchers that resume.
    pub watch_ring: usize,
    /// A watch stream without an event for this long gets a heartbeat.
    pub watch_heartbeat: Duration,
    /// Most watch streams at the same time.
    pub max_watchers: usize,
    /// Length of the stretches of the models' histories: a minute, except where a test is in a hurry.
    pub history_interval: Duration,
    /// Form of the log.
    pub log_format: LogFormat,
    /// Filter of the log, as `tracing_subscriber::EnvFilter` reads it.
    pub log: String,
    /// Where traces and metrics go over OTLP (gRPC). `None`: nowhere.
    pub otlp_endpoint: Option<String>,
    /// Share of traces without a sampled parent that are recorded, from 0 to 1.
    pub trace_sample_ratio: f64,
}

impl Settings {
    /// Puts flags, environment, file and defaults together, and checks the result.
    ///
    /// Reads the configuration file and looks at the given paths, but creates nothing.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file or the setting that is wrong.
    pub fn load(arguments: SettingsArguments) -> Result<Self, ConfigError> {
        let file = match &arguments.config {
            Some(path) => Layer::from_file(path)?,
            None => Layer::default(),
        };
        let settings = Self::resolve(arguments.layer.over(file))?;
        settings.check()?;
        Ok(settings)
    }

    /// Creates the data and the runtime directory where they are missing, makes sure that nobody else
    /// can get at the runtime directory, and that the worker's binary is there.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for a directory that cannot be created or is open to others, and for a
    /// worker that is missing.
    pub fn prepare(&self) -> Result<(), ConfigError> {
        directories::make_data_dir(&self.data_dir)?;
        directories::make_runtime_dir(&self.runtime_dir)?;
        directories::check_worker(&self.worker)
    }

    /// Whether the binary of the workers for GPUs is there.
    pub fn has_cuda_worker(&self) -> bool {
        directories::check_executable(&self.worker_cuda).is_ok()
    }

    fn check(&self) -> Result<(), ConfigError> {
        for (key, address) in [("listen", self.listen), ("ops_listen", self.ops_listen)] {
            if !address.ip().to_canonical().is_loopback() && !self.insecure_listen {
                return Err(ConfigError::invalid(
                    key,
                    format!(
                        "{address} is not a loopback address, and connections are neither encrypted \
                         nor authenticated: bind 127.0.0.1, or give --insecure-listen if only \
                         trusted clients can reach it"
                    ),
                ));
            }
        }
        if self.listen == self.ops_listen && self.listen.port() != 0 {
            return Err(ConfigError::invalid(
                "ops_listen",
                format!(
                    "{} is the main port already: take another port",
                    self.listen
                ),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod page;
#[cfg(test)]
mod tests;
