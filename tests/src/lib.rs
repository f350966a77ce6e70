//! What the end-to-end suites share.

pub mod background;
pub mod fixtures;
pub mod hangar;
pub mod http;
pub mod lab;
pub mod metrics;
pub mod processes;
pub mod refusals;
pub mod scripted;
pub mod tools;
