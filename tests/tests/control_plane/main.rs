//! The server itself: what it promises about models, their states and their files, mostly with scripted workers.

mod catalog;
mod described;
mod devices;
mod errors;
mod faults;
mod fleet;
mod fuzz_rpc;
mod health;
mod hostile;
mod hub;
mod lifecycle;
mod memory;
mod random_kill;
mod reconcile;
mod sessions;
mod shutdown;
mod switch;
mod telemetry;
mod usage;
mod watch;
