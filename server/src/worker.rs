//! Worker processes: starting them, talking to them, watching them from outside, and reaping them.
//!
//! One [`Process`] stands for one child. The task behind it is the only one that signals and reaps the
//! child, so a signal can never hit a stranger that got its process id.

mod channel;
mod confine;
mod handshake;
mod log;
mod process;
mod reading;
mod spawner;

pub use channel::{Client, connect};
pub use confine::limit_memory;
pub use handshake::{HandshakeError, Ready};
pub use process::{Exit, Process, SpawnError, Starting};
pub use reading::{Reading, descendants_cpu_time, memory_of};
pub use spawner::{Program, Spawner};
