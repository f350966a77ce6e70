//! Hangar's server: hosts mistral.rs engines in worker processes and manages their life.
//!
//! Dependencies point inward: `rpc → lifecycle → {catalog, worker, status} → model`. Nothing but [`run`] is public: what is
//! `pub` in a module is so for the other modules, and the compiler names what nobody uses.

#![allow(unreachable_pub, reason = "it is for the other modules")]

mod catalog;
mod command;
mod config;
mod demo;
mod download;
mod failpoint;
mod health;
mod keyed_locks;
mod lifecycle;
mod model;
mod net;
mod ops;
mod prepared;
mod rpc;
mod server;
mod signal;
mod status;
mod supervisor;
mod system;
mod telemetry;
mod version;
mod wire;
mod worker;

pub use command::run;
