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

impl Layer {
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
            worker_cuda: self.worker_cuda.or(below.worker_cuda),
            hub: self.hub.over(below.hub),
            max_concurrent_loads: self.max_concurrent_loads.or(below.max_concurrent_loads),
            max_concurrent_device_loads: self
                .max_concurrent_device_loads
                .or(below.max_concurrent_device_loads),
            device_release_timeout: self.device_release_timeout.or(below.device_release_timeout),
            max_models: self.max_models.or(below.max_models),
            prepared_cache_size: self.prepared_cache_size.or(below.prepared_cache_size),
            memory_limit: self.memory_limit.or(below.memory_limit),
            memory_high_watermark: self.memory_high_watermark.or(below.memory_high_watermark),
            readiness: self.readiness.or(below.readiness),
            models: self.models.or(below.models),
            default_max_concurrency: self
                .default_max_concurrency
                .or(below.default_max_concurrency),
            default_max_queue: self.default_max_queue.or(below.default_max_queue),
            load_timeout: self.load_timeout.or(below.load_timeout),
            drain_timeout: self.drain_timeout.or(below.drain_timeout),
            ready_timeout: self.ready_timeout.or(below.ready_timeout),
            kill_timeout: self.kill_timeout.or(below.kill_timeout),
            shutdown_timeout: self.shutdown_timeout.or(below.shutdown_timeout),
            liveness_timeout: self.liveness_timeout.or(below.liveness_timeout),
            hang_timeout: self.hang_timeout.or(below.hang_timeout),
            spin_timeout: self.spin_timeout.or(below.spin_timeout),
            spin_timeout_per_prompt_token: self
                .spin_timeout_per_prompt_token
                .or(below.spin_timeout_per_prompt_token),
            max_spin_timeout: self.max_spin_timeout.or(below.max_spin_timeout),
            stall_timeout: self.stall_timeout.or(below.stall_timeout),
            stall_timeout_per_gib: self.stall_timeout_per_gib.or(below.stall_timeout_per_gib),
            watch_ring: self.watch_ring.or(below.watch_ring),
            watch_heartbeat: self.watch_heartbeat.or(below.watch_heartbeat),
            max_watchers: self.max_watchers.or(below.max_watchers),
            history_interval: self.history_interval.or(below.history_interval),
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
    pub(in crate::config) fn resolve(self) -> Result<Settings, ConfigError> {
        use values::{count, not_empty, positive, ratio};
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
            watch_heartbeat: positive(
                "watch_heartbeat",
                self.watch_heartbeat,
                Duration::from_secs(15),
            )?,
            max_watchers: count("max_watchers", self.max_watchers, 1024)?,
            history_interval: positive(
                "history_interval",
                self.history_interval,
                Duration::from_secs(60),
            )?,
            log_format: self.log_format.unwrap_or_else(LogFormat::detect),
            log: not_empty(self.log).unwrap_or_else(|| "info".to_owned()),
            otlp_endpoint: values::endpoint(not_empty(self.otlp_endpoint))?,
            trace_sample_ratio: ratio("trace_sample_ratio", self.trace_sample_ratio, 1.0)?,
        })
    }
}
