//! What the end-to-end suites share.

pub mod fixtures;
pub mod hangar;
pub mod processes;
pub mod refusals;
pub mod scripted;
