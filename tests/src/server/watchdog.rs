//! A test that hangs is named, and ends.
//!
//! Nearly every test has a server, which lives no longer than the test: one that lives for too long is a test that
//! hangs. The harness itself would wait for it for ever without a word.

use std::{
    io::Write,
    path::PathBuf,
    sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};

/// Far longer than any test takes, on a machine that is slow and has other things to do.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Watches over a server until it is dropped.
#[derive(Debug)]
pub(super) struct Watchdog {
    _alive: SyncSender<()>,
}

impl Watchdog {
    /// Ends the test's whole process when this server, which logs to `log`, lives for too long.
    pub(super) fn start(server: Pid, log: PathBuf) -> Result<Self> {
        // The harness gives each test a thread of its name.
        let test = thread::current().name().unwrap_or("a test").to_owned();
        let (alive, ended) = sync_channel::<()>(1);
        thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || {
                if ended.recv_timeout(LIMIT) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                let log = std::fs::read_to_string(log).unwrap_or_default();
                let words = format!("{test} hangs: its server has run for {LIMIT:?}\n{log}");
                // Nobody is left to be told of a failure.
                let _ = std::io::stderr().write_all(words.as_bytes());
                let _ = kill_process(server, Signal::KILL);
                std::process::exit(101);
            })?;
        Ok(Self { _alive: alive })
    }
}
