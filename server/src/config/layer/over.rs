//! Layers put one over the other.

use super::Layer;

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
            listen, ops_listen, insecure_listen, max_connections, max_connection_idle, max_connection_age,
            max_request_bytes, max_request_memory, reflection, data_dir,
            runtime_dir, model_roots, worker, worker_cuda, max_concurrent_loads, max_concurrent_device_loads,
            gpu_driver_timeout, device_release_timeout, max_models, prepared_cache_size, memory_limit, memory_high_watermark,
            readiness, models, default_max_concurrency, default_max_queue, load_timeout, drain_timeout,
            ready_timeout, kill_timeout, shutdown_timeout, liveness_timeout, hang_timeout, spin_timeout,
            spin_timeout_per_prompt_token, max_spin_timeout, stall_timeout, stall_timeout_per_gib, watch_ring,
            watch_heartbeat, max_watchers, history_interval, log_format, log, otlp_endpoint,
            trace_sample_ratio,
            ; hub
        )
    }
}
