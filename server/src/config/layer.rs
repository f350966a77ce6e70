//! One source of settings, in which each may be missing: flags and environment, or the file.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use serde::Deserialize;

use super::values::{self, LogFormat, Seconds, Size};
use super::{ConfigError, Settings, directories};

/// Settings of one source. The flags' names with underscores are the file's keys.
#[derive(Clone, Debug, Default, PartialEq, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[group(skip)]
pub struct Layer {
    /// Address of the gRPC API [default: 127.0.0.1:50051]
    #[arg(
        long,
        env = "HANGAR_LISTEN",
        value_name = "IP:PORT",
        help_heading = "Network"
    )]
    pub listen: Option<SocketAddr>,
    /// Address of metrics and health over HTTP [default: 127.0.0.1:9464]
    #[arg(
        long,
        env = "HANGAR_OPS_LISTEN",
        value_name = "IP:PORT",
        help_heading = "Network"
    )]
    pub ops_listen: Option<SocketAddr>,
    /// Allow addresses other than loopback, without encryption and authentication [default: false]
    #[arg(long, env = "HANGAR_INSECURE_LISTEN", value_name = "BOOL", help_heading = "Network",
          num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = BoolishValueParser::new())]
    pub insecure_listen: Option<bool>,
    /// Most connections of a port at the same time [default: 1024]
    #[arg(
        long,
        env = "HANGAR_MAX_CONNECTIONS",
        value_name = "COUNT",
        help_heading = "Network"
    )]
    pub max_connections: Option<usize>,
    /// Largest request message, for example 16MiB [default: 16MiB]
    #[arg(
        long,
        env = "HANGAR_MAX_REQUEST_BYTES",
        value_name = "SIZE",
        help_heading = "Network"
    )]
    pub max_request_bytes: Option<Size>,
    /// Offer server reflection to tools such as grpcurl [default: true]
    #[arg(long, env = "HANGAR_REFLECTION", value_name = "BOOL", help_heading = "Network",
          num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = BoolishValueParser::new())]
    pub reflection: Option<bool>,

    /// Directory of what outlives the server [default: $XDG_STATE_HOME/hangar or
    /// ~/.local/state/hangar]
    #[arg(
        long,
        env = "HANGAR_DATA_DIR",
        value_name = "DIR",
        help_heading = "Files"
    )]
    pub data_dir: Option<PathBuf>,
    /// Directory of the workers' sockets [default: run in the data directory, or a private directory
    /// under the temporary one where that path is too long]
    #[arg(
        long,
        env = "HANGAR_RUNTIME_DIR",
        value_name = "DIR",
        help_heading = "Files"
    )]
    pub runtime_dir: Option<PathBuf>,
    /// Directory that local models may be in; repeat for more, or separate them by colons
    /// [default: none, then only the demo model can be loaded]
    #[arg(
        long = "model-root",
        env = "HANGAR_MODEL_ROOT",
        value_name = "DIR",
        help_heading = "Files",
        value_delimiter = ':'
    )]
    #[serde(rename = "model_root", deserialize_with = "values::one_or_more")]
    pub model_roots: Option<Vec<PathBuf>>,
    /// Binary of the workers [default: hangar-worker beside this binary]
    #[arg(
        long,
        env = "HANGAR_WORKER",
        value_name = "FILE",
        help_heading = "Files"
    )]
    pub worker: Option<PathBuf>,

    /// Most loads at the same time; more wait [default: 2]
    #[arg(
        long,
        env = "HANGAR_MAX_CONCURRENT_LOADS",
        value_name = "COUNT",
        help_heading = "Models"
    )]
    pub max_concurrent_loads: Option<usize>,
    /// Most registered models [default: 1000]
    #[arg(
        long,
        env = "HANGAR_MAX_MODELS",
        value_name = "COUNT",
        help_heading = "Models"
    )]
    pub max_models: Option<usize>,
    /// Requests of a model that run at the same time, where its spec does not say [default: 4]
    #[arg(
        long,
        env = "HANGAR_DEFAULT_MAX_CONCURRENCY",
        value_name = "COUNT",
        help_heading = "Models"
    )]
    pub default_max_concurrency: Option<u32>,
    /// Requests of a model that may wait, where its spec does not say [default: 64]
    #[arg(
        long,
        env = "HANGAR_DEFAULT_MAX_QUEUE",
        value_name = "COUNT",
        help_heading = "Models"
    )]
    pub default_max_queue: Option<u32>,

    /// Longest load, where the request does not say, for example 10m [default: 300s]
    #[arg(
        long,
        env = "HANGAR_LOAD_TIMEOUT",
        value_name = "TIME",
        help_heading = "Time limits"
    )]
    pub load_timeout: Option<Seconds>,
    /// Longest drain of an unload, where the request does not say [default: 30s]
    #[arg(
        long,
        env = "HANGAR_DRAIN_TIMEOUT",
        value_name = "TIME",
        help_heading = "Time limits"
    )]
    pub drain_timeout: Option<Seconds>,
    /// Longest start of a worker with the inspection of the model's files [default: 30s]
    #[arg(
        long,
        env = "HANGAR_READY_TIMEOUT",
        value_name = "TIME",
        help_heading = "Time limits"
    )]
    pub ready_timeout: Option<Seconds>,
    /// Time that a worker has to end when asked to, before it is killed [default: 5s]
    #[arg(
        long,
        env = "HANGAR_KILL_TIMEOUT",
        value_name = "TIME",
        help_heading = "Time limits"
    )]
    pub kill_timeout: Option<Seconds>,
    /// Longest shutdown of the server [default: 60s]
    #[arg(
        long,
        env = "HANGAR_SHUTDOWN_TIMEOUT",
        value_name = "TIME",
        help_heading = "Time limits"
    )]
    pub shutdown_timeout: Option<Seconds>,
    /// A worker that answers requests and makes no step for this long is killed [default: 30s]
    #[arg(
        long,
        env = "HANGAR_HANG_TIMEOUT",
        value_name = "TIME",
        help_heading = "Time limits"
    )]
    pub hang_timeout: Option<Seconds>,
    /// Added to that for each token of the longest prompt in flight [default: 50ms]
    #[arg(
        long,
        env = "HANGAR_HANG_TIMEOUT_PER_PROMPT_TOKEN",
        value_name = "TIME",
        help_heading = "Time limits"
    )]
    pub hang_timeout_per_prompt_token: Option<Seconds>,
    /// A load without progress for this long fails [default: 60s]
    #[arg(
        long,
        env = "HANGAR_STALL_TIMEOUT",
        value_name = "TIME",
        help_heading = "Time limits"
    )]
    pub stall_timeout: Option<Seconds>,
    /// Added to that for each GiB of the model's files [default: 20s]
    #[arg(
        long,
        env = "HANGAR_STALL_TIMEOUT_PER_GIB",
        value_name = "TIME",
        help_heading = "Time limits"
    )]
    pub stall_timeout_per_gib: Option<Seconds>,

    /// Transitions kept for watchers that resume [default: 10000]
    #[arg(
        long,
        env = "HANGAR_WATCH_RING",
        value_name = "COUNT",
        help_heading = "Watching"
    )]
    pub watch_ring: Option<usize>,
    /// A watch stream without an event for this long gets a heartbeat [default: 15s]
    #[arg(
        long,
        env = "HANGAR_WATCH_HEARTBEAT",
        value_name = "TIME",
        help_heading = "Watching"
    )]
    pub watch_heartbeat: Option<Seconds>,
    /// Most watch streams at the same time [default: 1024]
    #[arg(
        long,
        env = "HANGAR_MAX_WATCHERS",
        value_name = "COUNT",
        help_heading = "Watching"
    )]
    pub max_watchers: Option<usize>,

    /// Form of the log on standard error [default: text on a terminal, else json]
    #[arg(
        long,
        env = "HANGAR_LOG_FORMAT",
        value_name = "FORM",
        help_heading = "Telemetry"
    )]
    pub log_format: Option<LogFormat>,
    /// What to log, for example info,hangar_server=debug [default: info]
    #[arg(
        long,
        env = "HANGAR_LOG",
        value_name = "FILTER",
        help_heading = "Telemetry"
    )]
    pub log: Option<String>,
    /// Where traces and metrics go over OTLP (gRPC), for example http://localhost:4317
    /// [default: nowhere]
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_name = "URL",
        help_heading = "Telemetry"
    )]
    pub otlp_endpoint: Option<String>,
    /// Share of traces that are recorded, from 0 to 1; a caller's decision goes first [default: 1]
    #[arg(
        long,
        env = "HANGAR_TRACE_SAMPLE_RATIO",
        value_name = "SHARE",
        help_heading = "Telemetry"
    )]
    pub trace_sample_ratio: Option<f64>,
}

impl Layer {
    /// What a configuration file says.
    ///
    /// # Errors
    /// [`ConfigError::File`] when it cannot be read, is not TOML, has an unknown key or a value of the
    /// wrong kind.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError::file(path, e))?;
        config::Config::builder()
            .add_source(config::File::from_str(&text, config::FileFormat::Toml))
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|e| ConfigError::file(path, e))
    }

    /// These settings, and `below` where they are missing.
    pub fn over(self, below: Self) -> Self {
        Self {
            listen: self.listen.or(below.listen),
            ops_listen: self.ops_listen.or(below.ops_listen),
            insecure_listen: self.insecure_listen.or(below.insecure_listen),
            max_connections: self.max_connections.or(below.max_connections),
            max_request_bytes: self.max_request_bytes.or(below.max_request_bytes),
            reflection: self.reflection.or(below.reflection),
            data_dir: self.data_dir.or(below.data_dir),
            runtime_dir: self.runtime_dir.or(below.runtime_dir),
            model_roots: self.model_roots.or(below.model_roots),
            worker: self.worker.or(below.worker),
            max_concurrent_loads: self.max_concurrent_loads.or(below.max_concurrent_loads),
            max_models: self.max_models.or(below.max_models),
            default_max_concurrency: self
                .default_max_concurrency
                .or(below.default_max_concurrency),
            default_max_queue: self.default_max_queue.or(below.default_max_queue),
            load_timeout: self.load_timeout.or(below.load_timeout),
            drain_timeout: self.drain_timeout.or(below.drain_timeout),
            ready_timeout: self.ready_timeout.or(below.ready_timeout),
            kill_timeout: self.kill_timeout.or(below.kill_timeout),
            shutdown_timeout: self.shutdown_timeout.or(below.shutdown_timeout),
            hang_timeout: self.hang_timeout.or(below.hang_timeout),
            hang_timeout_per_prompt_token: self
                .hang_timeout_per_prompt_token
                .or(below.hang_timeout_per_prompt_token),
            stall_timeout: self.stall_timeout.or(below.stall_timeout),
            stall_timeout_per_gib: self.stall_timeout_per_gib.or(below.stall_timeout_per_gib),
            watch_ring: self.watch_ring.or(below.watch_ring),
            watch_heartbeat: self.watch_heartbeat.or(below.watch_heartbeat),
            max_watchers: self.max_watchers.or(below.max_watchers),
            log_format: self.log_format.or(below.log_format),
            log: self.log.or(below.log),
            otlp_endpoint: self.otlp_endpoint.or(below.otlp_endpoint),
            trace_sample_ratio: self.trace_sample_ratio.or(below.trace_sample_ratio),
        }
    }

    /// Fills in the defaults and checks each value by itself.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming the setting.
    pub(super) fn resolve(self) -> Result<Settings, ConfigError> {
        use values::{count, not_empty, positive, ratio};
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let seconds = Duration::from_secs;
        let data_dir = directories::data_dir(self.data_dir)?;
        Ok(Settings {
            listen: self.listen.unwrap_or(loopback(50051)),
            ops_listen: self.ops_listen.unwrap_or(loopback(9464)),
            insecure_listen: self.insecure_listen.unwrap_or(false),
            max_connections: count("max_connections", self.max_connections, 1024)?,
            max_request_bytes: values::size("max_request_bytes", self.max_request_bytes)?,
            reflection: self.reflection.unwrap_or(true),
            runtime_dir: directories::runtime_dir(self.runtime_dir, &data_dir)?,
            data_dir,
            model_roots: directories::model_roots(self.model_roots.unwrap_or_default())?,
            worker: directories::worker(self.worker)?,
            max_concurrent_loads: count("max_concurrent_loads", self.max_concurrent_loads, 2)?,
            max_models: count("max_models", self.max_models, 1000)?,
            default_max_concurrency: count(
                "default_max_concurrency",
                self.default_max_concurrency,
                4,
            )?,
            default_max_queue: self.default_max_queue.unwrap_or(64),
            load_timeout: positive("load_timeout", self.load_timeout, seconds(300))?,
            drain_timeout: self.drain_timeout.map_or(seconds(30), Duration::from),
            ready_timeout: positive("ready_timeout", self.ready_timeout, seconds(30))?,
            kill_timeout: positive("kill_timeout", self.kill_timeout, seconds(5))?,
            shutdown_timeout: positive("shutdown_timeout", self.shutdown_timeout, seconds(60))?,
            hang_timeout: positive("hang_timeout", self.hang_timeout, seconds(30))?,
            hang_timeout_per_prompt_token: self
                .hang_timeout_per_prompt_token
                .map_or(Duration::from_millis(50), Duration::from),
            stall_timeout: positive("stall_timeout", self.stall_timeout, seconds(60))?,
            stall_timeout_per_gib: self
                .stall_timeout_per_gib
                .map_or(seconds(20), Duration::from),
            watch_ring: count("watch_ring", self.watch_ring, 10_000)?,
            watch_heartbeat: positive("watch_heartbeat", self.watch_heartbeat, seconds(15))?,
            max_watchers: count("max_watchers", self.max_watchers, 1024)?,
            log_format: self.log_format.unwrap_or_else(LogFormat::detect),
            log: not_empty(self.log).unwrap_or_else(|| "info".to_owned()),
            otlp_endpoint: values::endpoint(not_empty(self.otlp_endpoint))?,
            trace_sample_ratio: ratio("trace_sample_ratio", self.trace_sample_ratio, 1.0)?,
        })
    }
}
