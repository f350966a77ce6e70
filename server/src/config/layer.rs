//! One source of settings, in which each may be missing: flags and environment, or the file.

mod over;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::{Args, builder::BoolishValueParser};
use serde::Deserialize;

use super::{
    error::ConfigError,
    hub::HubLayer,
    values::{self, LogFormat, Readiness, Seconds, Size},
};

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
    /// Most connections of a port at the same time; for one more, one that is idle is closed [default: 1024]
    #[arg(
        long,
        env = "HANGAR_MAX_CONNECTIONS",
        value_name = "COUNT",
        help_heading = "Network"
    )]
    pub max_connections: Option<usize>,
    /// A connection without a call for this long is closed [default: 5m]
    #[arg(
        long,
        env = "HANGAR_MAX_CONNECTION_IDLE",
        value_name = "TIME",
        help_heading = "Network"
    )]
    pub max_connection_idle: Option<Seconds>,
    /// A connection this old, a tenth more or less, gets no new calls and is closed once those that it has have ended
    /// [default: 1h]
    #[arg(
        long,
        env = "HANGAR_MAX_CONNECTION_AGE",
        value_name = "TIME",
        help_heading = "Network"
    )]
    pub max_connection_age: Option<Seconds>,
    /// Largest request message for a model, for example 16MiB; what concerns its entry has at most 1 MiB [default: 16MiB]
    #[arg(
        long,
        env = "HANGAR_MAX_REQUEST_BYTES",
        value_name = "SIZE",
        help_heading = "Network"
    )]
    pub max_request_bytes: Option<Size>,
    /// Most memory of all requests together, from their first bytes to the ends of their calls at most; the first 4 KiB of each
    /// call are free; at least three times max_request_bytes [default: 256MiB]
    #[arg(
        long,
        env = "HANGAR_MAX_REQUEST_MEMORY",
        value_name = "SIZE",
        help_heading = "Network"
    )]
    pub max_request_memory: Option<Size>,
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
    /// Binary of the workers [default: of hangar-worker-x86-64-v4, -v3 and hangar-worker beside this binary, the first
    /// that the processor can run]
    #[arg(
        long,
        env = "HANGAR_WORKER",
        value_name = "FILE",
        help_heading = "Files"
    )]
    pub worker: Option<PathBuf>,
    /// Binary of the workers for GPUs [default: hangar-worker-cuda beside this binary; without it, models
    /// are on the CPU]
    #[arg(
        long,
        env = "HANGAR_WORKER_CUDA",
        value_name = "FILE",
        help_heading = "Files"
    )]
    pub worker_cuda: Option<PathBuf>,
    /// The model hub.
    #[command(flatten)]
    #[serde(skip)]
    pub hub: HubLayer,

    /// Most loads at the same time on the CPU; more wait [default: 2]
    #[arg(
        long,
        env = "HANGAR_MAX_CONCURRENT_LOADS",
        value_name = "COUNT",
        help_heading = "Models"
    )]
    pub max_concurrent_loads: Option<usize>,
    /// Most loads at the same time on each GPU; more wait [default: 1]
    #[arg(
        long,
        env = "HANGAR_MAX_CONCURRENT_DEVICE_LOADS",
        value_name = "COUNT",
        help_heading = "Models"
    )]
    pub max_concurrent_device_loads: Option<usize>,
    /// Most registered models [default: 100000]
    #[arg(
        long,
        env = "HANGAR_MAX_MODELS",
        value_name = "COUNT",
        help_heading = "Models"
    )]
    pub max_models: Option<usize>,
    /// Memory that models may hold together, for example 48GiB [default: what there is]
    #[arg(
        long,
        env = "HANGAR_MEMORY_LIMIT",
        value_name = "SIZE",
        help_heading = "Models"
    )]
    pub memory_limit: Option<Size>,
    /// Share of the memory above which the idle model that was used least recently is unloaded, from 0 to
    /// 1 [default: 0.9]
    #[arg(
        long,
        env = "HANGAR_MEMORY_HIGH_WATERMARK",
        value_name = "SHARE",
        help_heading = "Models"
    )]
    pub memory_high_watermark: Option<f64>,
    /// What readiness waits for: "started" for the required models to have been READY or FAILED once,
    /// "required" for all of them to be READY [default: started]
    #[arg(
        long,
        env = "HANGAR_READINESS",
        value_name = "RULE",
        help_heading = "Models"
    )]
    pub readiness: Option<Readiness>,
    /// Models that are declared: in the file only.
    #[arg(skip)]
    pub models: Option<Vec<config::Value>>,
    /// Most that is kept of weights prepared for quicker loads; 0 keeps none [default: 64GiB]
    #[arg(
        long,
        env = "HANGAR_PREPARED_CACHE_SIZE",
        value_name = "SIZE",
        help_heading = "Models"
    )]
    pub prepared_cache_size: Option<Size>,
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
    /// Longest wait for the NVIDIA driver when a model gets a GPU; a host with many of them and no persistence daemon may
    /// need more [default: 10s]
    #[arg(
        long,
        env = "HANGAR_GPU_DRIVER_TIMEOUT",
        value_name = "TIME",
        help_heading = "Time limits"
    )]
    pub gpu_driver_timeout: Option<Seconds>,
    /// Time that a GPU has to have its memory back once a worker has gone; an unload waits for it
    /// [default: 10s]
    #[arg(
        long,
        env = "HANGAR_DEVICE_RELEASE_TIMEOUT",
        value_name = "TIME",
        help_heading = "Time limits"
    )]
    pub device_release_timeout: Option<Seconds>,
    /// Longest shutdown of the server: requests may go on until 5 s, twice `kill_timeout` and `device_release_timeout` are
    /// left of it, and what has not ended then is cut off [default: 60s]
    #[arg(
        long,
        env = "HANGAR_SHUTDOWN_TIMEOUT",
        value_name = "TIME",
        help_heading = "Time limits"
    )]
    pub shutdown_timeout: Option<Seconds>,
    /// Liveness fails when a task that the server cannot do without has not turned for this long, and a model when one
    /// of its own has not [default: 30s]
    #[arg(
        long,
        env = "HANGAR_LIVENESS_TIMEOUT",
        value_name = "TIME",
        help_heading = "Time limits"
    )]
    pub liveness_timeout: Option<Seconds>,
    /// A worker that is not heard of and does not work for this long is killed, and so is one that has requests and
    /// whose engine neither makes a step nor works [default: 30s]
    #[arg(
        long,
        env = "HANGAR_HANG_TIMEOUT",
        value_name = "TIME",
        help_heading = "Time limits"
    )]
    pub hang_timeout: Option<Seconds>,
    /// One that works this long without making a step is killed too; to read its prompts it has ten times what
    /// its pace says on top [default: 10m]
    #[arg(
        long,
        env = "HANGAR_SPIN_TIMEOUT",
        value_name = "TIME",
        help_heading = "Time limits"
    )]
    pub spin_timeout: Option<Seconds>,
    /// What it has for each token of its prompts while its pace is not known [default: 5s]
    #[arg(
        long,
        env = "HANGAR_SPIN_TIMEOUT_PER_PROMPT_TOKEN",
        value_name = "TIME",
        help_heading = "Time limits"
    )]
    pub spin_timeout_per_prompt_token: Option<Seconds>,
    /// What it has altogether at most, unless its pace says that the prompts need longer: then twice as long as they
    /// do [default: 1h]
    #[arg(
        long,
        env = "HANGAR_MAX_SPIN_TIMEOUT",
        value_name = "TIME",
        help_heading = "Time limits"
    )]
    pub max_spin_timeout: Option<Seconds>,
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
    /// A watch stream without an event for this long gets a heartbeat; at most 30s, since clients take one that gets
    /// nothing for a minute for broken [default: 15s]
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

    /// Length of the stretches of the models' histories, 1,440 of which are kept [default: 60s]
    #[arg(
        long,
        env = "HANGAR_HISTORY_INTERVAL",
        value_name = "TIME",
        help_heading = "Telemetry",
        hide = true
    )]
    pub history_interval: Option<Seconds>,
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
        let read = || {
            let file = config::File::from_str(&text, config::FileFormat::Toml);
            let whole = config::Config::builder().add_source(file).build()?;
            // A flattened struct would take unknown keys.
            let (hub, rest) = whole
                .cache
                .into_table()?
                .into_iter()
                .partition::<config::Map<_, _>, _>(|(key, _)| key.starts_with("hub_"));
            let value = |table| config::Value::new(None, config::ValueKind::Table(table));
            let hub = value(hub).try_deserialize()?;
            let layer: Self = value(rest).try_deserialize()?;
            Ok(Self { hub, ..layer })
        };
        read().map_err(|error: config::ConfigError| ConfigError::file(path, error))
    }
}
