//! What Hangar's server and its workers share: messages and stubs, the frames of their handshake, exit codes, why a
//! worker cannot serve its model, what processors they are built for, and how files of weights are named.
//!
//! Private: it changes without notice. Server and worker are installed together; each refuses another
//! [`PROTOCOL_VERSION`] than its own.

mod config;
mod exit;
mod failure;
pub mod frame;
pub mod processor;
mod shard;

pub use exit::ExitCode;
pub use failure::FailureReason;
pub use shard::shard;

/// Version of the protocol. Raised with every change that the other side does not understand.
pub const PROTOCOL_VERSION: u32 = 3;

/// Longest message between a server and a worker in bytes: a request to the server, whose own limit is below it, in the form
/// that workers take, or the vectors of a long batch.
pub const MAX_MESSAGE: usize = 80 << 20;

/// Generated messages and stubs of `hangar.worker.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
#[rustfmt::skip]
pub mod v1 {
    include!("gen/hangar.worker.v1.rs");
}
