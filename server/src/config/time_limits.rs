//! How long things may take.

use std::time::Duration;

use super::{ConfigError, Layer, values::positive};

/// How long things may take.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub struct TimeLimits {
    /// A connection without a call for this long is ended.
    pub connection_idle: Duration,
    /// And so is one this old, about, once its calls have ended.
    pub connection_age: Duration,
    /// Longest load, where the request does not say.
    pub load: Duration,
    /// Longest drain of an unload, where the request does not say.
    pub drain: Duration,
    /// Longest start of a worker, the inspection of the model's files included.
    pub ready: Duration,
    /// Time that a worker has to end when asked to, before it is killed.
    pub kill: Duration,
    /// Longest wait for the driver of the GPUs when a model is placed.
    pub gpu_driver: Duration,
    /// Time that a GPU has to have its memory back once a worker has gone.
    pub device_release: Duration,
    /// Longest shutdown of the server.
    pub shutdown: Duration,
    /// A task that the server cannot do without and that has not turned for this long makes it not live; one of a model
    /// makes the model fail.
    pub liveness: Duration,
    /// A worker with requests in flight that neither makes a step nor works for this long hangs.
    pub hang: Duration,
    /// One that works for this long without making a step does too.
    pub spin: Duration,
    /// Added to `spin` for each token of the prompts in flight while the model's pace is not known.
    pub spin_per_prompt_token: Duration,
    /// Both together at most, unless the model's pace says that the prompts need longer.
    pub max_spin: Duration,
    /// A load without progress for this long is stalled.
    pub stall: Duration,
    /// Added to `stall` for each GiB of the model's files.
    pub stall_per_gib: Duration,
}

impl TimeLimits {
    /// Those of `layer`, with the defaults filled in, each checked by itself.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming the setting.
    pub(super) fn of(layer: &Layer) -> Result<Self, ConfigError> {
        let seconds = Duration::from_secs;
        let (idle, age) = (layer.max_connection_idle, layer.max_connection_age);
        Ok(Self {
            connection_idle: positive("max_connection_idle", idle, seconds(300))?,
            connection_age: positive("max_connection_age", age, seconds(3600))?,
            load: positive("load_timeout", layer.load_timeout, seconds(300))?,
            drain: layer.drain_timeout.map_or(seconds(30), Duration::from),
            ready: positive("ready_timeout", layer.ready_timeout, seconds(30))?,
            kill: positive("kill_timeout", layer.kill_timeout, seconds(5))?,
            gpu_driver: positive("gpu_driver_timeout", layer.gpu_driver_timeout, seconds(10))?,
            device_release: positive(
                "device_release_timeout",
                layer.device_release_timeout,
                seconds(10),
            )?,
            shutdown: positive("shutdown_timeout", layer.shutdown_timeout, seconds(60))?,
            liveness: positive("liveness_timeout", layer.liveness_timeout, seconds(30))?,
            hang: positive("hang_timeout", layer.hang_timeout, seconds(30))?,
            spin: positive("spin_timeout", layer.spin_timeout, seconds(600))?,
            spin_per_prompt_token: layer
                .spin_timeout_per_prompt_token
                .map_or(seconds(5), Duration::from),
            max_spin: positive("max_spin_timeout", layer.max_spin_timeout, seconds(3600))?,
            stall: positive("stall_timeout", layer.stall_timeout, seconds(60))?,
            stall_per_gib: layer
                .stall_timeout_per_gib
                .map_or(seconds(20), Duration::from),
        })
    }
}
