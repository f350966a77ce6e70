//! The settings that come of all layers together.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{
    ConfigError, Layer, Settings, TimeLimits, directories, models,
    values::{self, LogFormat},
};

impl Settings {
    /// Fills in the defaults and checks each value by itself.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming the setting.
    pub(super) fn resolve(layer: Layer) -> Result<Self, ConfigError> {
        use values::{count, not_empty, positive, ratio};
        let seconds = Duration::from_secs;
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let time_limits = TimeLimits::of(&layer)?;
        let data_dir = directories::data_dir(layer.data_dir)?;
        let max_request_bytes = values::size("max_request_bytes", layer.max_request_bytes)?;
        let max_request_memory =
            values::request_memory(layer.max_request_memory, max_request_bytes)?;
        let device_loads = layer.max_concurrent_device_loads;
        let watermark = layer.memory_high_watermark;
        Ok(Self {
            time_limits,
            listen: layer.listen.unwrap_or(loopback(50051)),
            ops_listen: layer.ops_listen.unwrap_or(loopback(9464)),
            insecure_listen: layer.insecure_listen.unwrap_or(false),
            max_connections: count("max_connections", layer.max_connections, 1024)?,
            max_request_bytes,
            max_request_memory,
            reflection: layer.reflection.unwrap_or(true),
            runtime_dir: directories::runtime_dir(layer.runtime_dir, &data_dir)?,
            hub: layer.hub.resolve(&data_dir)?,
            data_dir,
            model_roots: directories::model_roots(layer.model_roots.unwrap_or_default())?,
            worker: directories::worker(layer.worker)?,
            worker_cuda: directories::worker_cuda(layer.worker_cuda)?,
            max_concurrent_loads: count("max_concurrent_loads", layer.max_concurrent_loads, 2)?,
            max_concurrent_device_loads: count("max_concurrent_device_loads", device_loads, 1)?,
            prepared_cache_size: layer.prepared_cache_size.map_or(64 << 30, u64::from),
            memory_limit: layer.memory_limit.map(u64::from),
            memory_high_watermark: ratio("memory_high_watermark", watermark, 0.9)?,
            readiness: layer.readiness.unwrap_or_default(),
            max_models: count("max_models", layer.max_models, 100_000)?,
            models: models::declared(layer.models.unwrap_or_default())?,
            default_max_concurrency: count(
                "default_max_concurrency",
                layer.default_max_concurrency,
                4,
            )?,
            default_max_queue: layer.default_max_queue.unwrap_or(64),
            watch_ring: count("watch_ring", layer.watch_ring, 10_000)?,
            watch_heartbeat: values::heartbeat("watch_heartbeat", layer.watch_heartbeat)?,
            max_watchers: count("max_watchers", layer.max_watchers, 1024)?,
            history_interval: positive("history_interval", layer.history_interval, seconds(60))?,
            log_format: layer.log_format.unwrap_or_else(LogFormat::detect),
            log: not_empty(layer.log).unwrap_or_else(|| "info".to_owned()),
            otlp_endpoint: values::endpoint(not_empty(layer.otlp_endpoint))?,
            trace_sample_ratio: ratio("trace_sample_ratio", layer.trace_sample_ratio, 1.0)?,
        })
    }
}
