//! Layers put one over the other, and the settings that come of them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::Layer;
use crate::config::{
    ConfigError, Settings, directories, models,
    values::{self, LogFormat},
};

/// One layer's value of each field, and the other's where it is missing. All fields have to be named.
macro_rules! first_given {
    ($above:ident, $below:ident; $($field:ident),* $(,)?; $($nested:ident),*) => {
        Self {
            $($field: $above.$field.or($below.$field),)*
            $($nested: $above.$nested.over($below.$nested),)*
        }
    };
}

impl Layer {
    /// These settings, and `below` where they are missing.
    pub fn over(self, below: Self) -> Self {
        first_given!(
            self, below;
            listen, ops_listen, insecure_listen, max_connections, max_request_bytes, reflection, data_dir,
            runtime_dir, model_roots, worker, worker_cuda, max_concurrent_loads, max_concurrent_device_loads,
            device_release_timeout, max_models, prepared_cache_size, memory_limit, memory_high_watermark,
            readiness, models, default_max_concurrency, default_max_queue, load_timeout, drain_timeout,
            ready_timeout, kill_timeout, shutdown_timeout, liveness_timeout, hang_timeout, spin_timeout,
            spin_timeout_per_prompt_token, max_spin_timeout, stall_timeout, stall_timeout_per_gib, watch_ring,
            watch_heartbeat, max_watchers, history_interval, log_format, log, otlp_endpoint,
            trace_sample_ratio,
            ; hub
        )
    }

    /// Fills in the defaults and checks each value by itself.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming the setting.
    pub(in crate::config) fn resolve(self) -> Result<Settings, ConfigError> {
        use values::{count, not_empty, positive, ratio};
        let seconds = Duration::from_secs;
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let time_limits = self.time_limits()?;
        let data_dir = directories::data_dir(self.data_dir)?;
        Ok(Settings {
            time_limits,
            listen: self.listen.unwrap_or(loopback(50051)),
            ops_listen: self.ops_listen.unwrap_or(loopback(9464)),
            insecure_listen: self.insecure_listen.unwrap_or(false),
            max_connections: count("max_connections", self.max_connections, 1024)?,
            max_request_bytes: values::size("max_request_bytes", self.max_request_bytes)?,
            reflection: self.reflection.unwrap_or(true),
            runtime_dir: directories::runtime_dir(self.runtime_dir, &data_dir)?,
            hub: self.hub.resolve(&data_dir)?,
            data_dir,
            model_roots: directories::model_roots(self.model_roots.unwrap_or_default())?,
            worker: directories::worker(self.worker)?,
            worker_cuda: directories::worker_cuda(self.worker_cuda)?,
            max_concurrent_loads: count("max_concurrent_loads", self.max_concurrent_loads, 2)?,
            max_concurrent_device_loads: count(
                "max_concurrent_device_loads",
                self.max_concurrent_device_loads,
                1,
            )?,
            prepared_cache_size: self.prepared_cache_size.map_or(64 << 30, u64::from),
            memory_limit: self.memory_limit.map(u64::from),
            memory_high_watermark: ratio("memory_high_watermark", self.memory_high_watermark, 0.9)?,
            readiness: self.readiness.unwrap_or_default(),
            max_models: count("max_models", self.max_models, 100_000)?,
            models: models::declared(self.models.unwrap_or_default())?,
            default_max_concurrency: count(
                "default_max_concurrency",
                self.default_max_concurrency,
                4,
            )?,
            default_max_queue: self.default_max_queue.unwrap_or(64),
            watch_ring: count("watch_ring", self.watch_ring, 10_000)?,
            watch_heartbeat: positive("watch_heartbeat", self.watch_heartbeat, seconds(15))?,
            max_watchers: count("max_watchers", self.max_watchers, 1024)?,
            history_interval: positive("history_interval", self.history_interval, seconds(60))?,
            log_format: self.log_format.unwrap_or_else(LogFormat::detect),
            log: not_empty(self.log).unwrap_or_else(|| "info".to_owned()),
            otlp_endpoint: values::endpoint(not_empty(self.otlp_endpoint))?,
            trace_sample_ratio: ratio("trace_sample_ratio", self.trace_sample_ratio, 1.0)?,
        })
    }
}
