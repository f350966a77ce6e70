//! Hangar's server: hosts mistral.rs engines in worker processes and manages their life.
//!
//! Dependencies point inward: `rpc → lifecycle → {catalog, worker, status} → model`.

pub mod catalog;
pub mod config;
pub mod demo;
pub mod download;
mod failpoint;
pub mod health;
pub mod lifecycle;
pub mod model;
pub mod net;
pub mod ops;
pub mod prepared;
pub mod rpc;
pub mod server;
pub mod signal;
pub mod status;
pub mod supervisor;
pub mod system;
pub mod telemetry;
pub mod version;
pub mod wire;
pub mod worker;
