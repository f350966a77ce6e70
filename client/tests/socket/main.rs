//! The client and the command line against a scripted server on a real socket.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod all;
mod catalog;
mod commands;
mod embeds;
mod generates;
mod hangarctl;
mod reconnect;
mod script;
mod sessions;
mod switches;
