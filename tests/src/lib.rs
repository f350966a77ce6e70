//! What the end-to-end suites share.

// Tests say `hangar_tests::test`, also in it.
extern crate self as hangar_tests;

pub mod background;
pub mod baseline;
pub mod failpoints;
pub mod fixtures;
pub mod fleet_watch;
pub mod fuzz;
pub mod http;
pub mod hub;
pub mod images;
pub mod info;
pub mod installation;
pub mod languages;
pub mod metrics;
pub mod nvml_stub;
pub mod page_commands;
pub mod processes;
pub mod quota;
pub mod raw;
pub mod refusals;
pub mod scripted;
pub mod server;
pub mod stubs;
pub mod throttle;
pub mod time_enough;
pub mod timed;
pub mod tools;
pub mod workspace;

pub use bounded::test;
