//! WatchStatus over real sockets: what a watcher sees, and that it never misses a state silently.
//!
//! Transitions are made by loads that fail at once, which need no process, and by scripted workers.

mod cutter;
mod disconnects;
mod frequent_changes;
mod progress;
mod raw;
mod resume;
mod slow;
mod snapshots;
mod stream;
