//! What the end-to-end suites share.

pub mod fixtures;
pub mod scripted;
