//! Worker processes: starting them, talking to them, watching them from outside, and reaping them.
//!
//! One [`Process`] stands for one child. The task behind it is the only one that signals and reaps the
//! child, so a signal can never hit another process that got its process id.
//!
//! The only room of the server that knows `hangar.worker.v1`: what is sent and what comes is converted in `convert`.

mod call;
mod channel;
mod client;
mod config;
mod confine;
mod convert;
mod handshake;
mod inspection;
mod log;
mod process;
mod reading;
mod spawner;
mod stats;

pub use call::{GenerateCall, RequestBounds};
pub use client::{CallError, Client, LoadEvent};
pub use config::{CommonConfig, ModelFiles, WorkerConfig};
pub use confine::limit_memory;
pub use handshake::{HandshakeError, Ready};
pub use inspection::{Inspection, ProgressMeasure};
pub use process::{Exit, Process, SpawnError, Starting};
pub use reading::{Reading, descendants_cpu_time};
pub use spawner::{Program, Spawner};
pub use stats::EngineStats;
