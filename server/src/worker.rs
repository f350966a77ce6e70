//! Worker processes: starting them, talking to them, watching them from outside, and reaping them.
//!
//! One [`WorkerProcess`] stands for one child. The task behind it is the only one that signals and reaps the
//! child, so a signal can never hit another process that got its process id. What this process was handed and did not start is
//! reaped by the thread that starts workers.
//!
//! The only module of the server that knows `hangar.worker.v1`: what is sent and what comes is converted in `convert`.

mod call;
mod channel;
mod children;
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
pub use client::{CallError, LoadEvent, WorkerClient};
pub use config::{CommonConfig, ModelFiles, WorkerConfig};
pub use confine::limit_memory;
pub use handshake::{HandshakeError, ReadyMessage};
pub use inspection::{Inspection, ProgressMeasure};
pub use process::{SpawnError, StartingWorker, WorkerExit, WorkerProcess};
pub use reading::ProcessReading;
pub use spawner::{Spawner, WorkerProgram};
pub use stats::EngineStats;
