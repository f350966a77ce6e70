//! The life of models: from what was asked for to worker processes.
//!
//! [`Fleet`] is the way in. Behind it each model has one driver task, the only one that changes the
//! model's state; everybody else sends it commands or reads what it publishes.

mod admission;
mod driver;
mod fleet;
mod memory;
mod model;
mod observer;
mod run;
mod source;
mod timers;
mod usage;

pub use admission::{Permit, Refusal};
pub use driver::{LoadTicket, UnloadReport, Verification};
pub use fleet::{Fleet, LoadError, LoadOptions, Resources, UnknownModel};
pub use memory::Memory;
pub use model::{Facts, Model};
pub use source::{ModelRoots, SourceError};
pub use usage::{Latency, Operation, RequestRecord, Usage, UsageReport};

use std::time::Duration;

/// Limits and deadlines of lives.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Loads that run at the same time.
    pub concurrent_loads: usize,
    /// Requests that run at the same time on a model whose spec does not say.
    pub max_concurrency: u32,
    /// Requests that wait for a model whose spec does not say.
    pub max_queue: u32,
    /// From the start of a worker to its ready frame.
    pub ready_timeout: Duration,
    /// From asking a worker to exit to killing it, and from killing to giving up on it.
    pub kill_timeout: Duration,
    /// Without a step of the engine while requests run.
    pub hang_timeout: Duration,
    /// Added to it for each token of a prompt that the engine is still reading.
    pub hang_timeout_per_prompt_token: Duration,
    /// Without bytes or processor time while loading.
    pub stall_timeout: Duration,
    /// Added to it for each GiB of weights.
    pub stall_timeout_per_gib: Duration,
    /// For drains at shutdown.
    pub drain_timeout: Duration,
}
