//! The life of models: from what was asked for to worker processes.
//!
//! [`Fleet`] is the way in. It only puts together and passes on: the `loader` is for loads and unloads, the `switch`er moves
//! aliases, `sessions` hold models, the `registry` changes what is registered, `routing` admits requests, the `reconciler`
//! brings back what was asked for, the `history_sampler` keeps histories. They share a [`context`], which knows none of them. What
//! is wanted of models, and who holds them, is written by the `desired_state` alone, which also has their locks. Behind it each model
//! has one `driver` task, the only one that changes the model's state; everybody else sends it a `command` or reads what it
//! publishes. An `inspection` looks ahead of a reload, and a `file_watch` sees changes of files. `memory` decides who fits, `eviction`
//! and `memory_pressure` make room; `devices` chooses GPUs, and `device_release` sees to it that they have their memory back.

mod activity;
mod admission;
mod built_in_engine;
mod command;
mod context;
mod deletions;
mod desired_state;
mod device_release;
mod devices;
mod driver;
mod driver_reply;
mod eviction;
mod fatal_prompt;
mod file_system;
mod file_watch;
mod fleet;
mod gpu;
mod history_sampler;
mod holders;
mod inspection;
mod known_kind;
mod ledger;
mod load_slots;
mod loader;
mod memory;
mod memory_pressure;
mod name_locks;
mod reconciler;
mod registry;
mod routing;
mod session_id;
mod sessions;
mod slots;
mod source;
mod switch;
mod tracked_model;
mod usage;
mod worker_monitor;
mod worker_task;

use std::time::Duration;

pub use admission::Permit;
pub use command::{LoadTicket, UnloadReport, Verification};
pub use context::{FindError, Resources, UnknownModel};
pub use devices::{CudaWorker, Devices};
pub use fleet::Fleet;
pub use history_sampler::HistorySampling;
pub use holders::Holder;
pub use inspection::TooManyReloads;
pub use known_kind::KnownKind;
pub use loader::{
    LoadError, LoadOptions, Reload, UnloadError, UnloadOptions, UnloadOutcome, WaitError,
};
pub use memory::MemoryAdmission;
pub use registry::{DeclarationError, RegistryError};
#[cfg(test)]
pub use routing::RoutingErrorKind;
pub use routing::{Admitted, ModelRequest, RoutingError, within};
pub use session_id::SessionId;
pub use sessions::{HoldSession, TooManySessions, UnknownSession};
pub use source::{ModelRoots, SourceError};
pub use switch::{SwitchError, SwitchOptions};
pub use tracked_model::{ModelFacts, TrackedModel};
pub use usage::{HistorySample, Latency, RequestRecord, UsageReport};

/// Limits and deadlines of lives.
#[derive(Clone, Debug)]
pub struct LifecycleLimits {
    /// Loads that run at the same time on the CPU.
    pub concurrent_loads: usize,
    /// Loads that run at the same time on each other device.
    pub concurrent_device_loads: usize,
    /// From the end of a worker to giving up on seeing its device's memory come back.
    pub device_release_timeout: Duration,
    /// Of a load that nobody set a time for.
    pub load_timeout: Duration,
    /// Share of the memory above which idle models go.
    pub memory_high_watermark: f64,
    /// Requests that run at the same time on a model whose spec does not say.
    pub max_concurrency: u32,
    /// Requests that wait for a model whose spec does not say.
    pub max_queue: u32,
    /// From the start of a worker to its ready frame.
    pub ready_timeout: Duration,
    /// From asking a worker to exit to killing it, and from killing to giving up on it.
    pub kill_timeout: Duration,
    /// Without a step of the engine and without work while requests run.
    pub hang_timeout: Duration,
    /// Of work without a step of the engine.
    pub spin_timeout: Duration,
    /// Added to it for each token of a prompt that the engine is still reading, while its pace is not known.
    pub spin_timeout_per_prompt_token: Duration,
    /// Both together at most, unless the pace says that the prompts need longer.
    pub max_spin_timeout: Duration,
    /// Without bytes or work while loading.
    pub stall_timeout: Duration,
    /// Added to it for each GiB of weights.
    pub stall_timeout_per_gib: Duration,
    /// For drains of which nobody says how long they may take.
    pub drain_timeout: Duration,
    /// For drains at shutdown.
    pub shutdown_drain_timeout: Duration,
}
