//! The log's lines on standard error, which may be a pipe that nobody reads.
//!
//! Invariant: whoever logs never waits for the reader. A line that can be written at once is; others wait, in order and up to a
//! limit, for a thread that writes them, and what is beyond is left out and counted.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Condvar, Mutex, MutexGuard, Once, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, fstat},
};
use tracing::{Dispatch, dispatcher};

use super::source_paths::shorten;

/// Standard error, for a log whose lines are written whole.
pub(super) struct Log;

/// Lines that are still to be written.
struct UnwrittenLines {
    state: Mutex<Unwritten>,
    changed: Condvar,
}

#[derive(Debug)]
struct Unwritten {
    lines: VecDeque<String>,
    bytes: usize,
    /// The thread has one in hand.
    is_writing: bool,
    /// Lines that were left out since the last was written.
    left_out: u64,
}

static UNWRITTEN: UnwrittenLines = UnwrittenLines {
    state: Mutex::new(Unwritten::new()),
    changed: Condvar::new(),
};

/// Takes what the log says of itself, which no filter may leave out.
static NOTICES: OnceLock<Dispatch> = OnceLock::new();

/// Bytes of lines that wait at most.
const MAX_BYTES: usize = 1 << 20;

/// What a pipe takes as a whole and at once when it can be written to (POSIX).
const PIPE_BUF: usize = 4096;

/// Starts the thread that writes what waits, once for the process.
///
/// # Errors
///
/// When the system gives no thread.
pub(super) fn start() -> io::Result<()> {
    static STARTED: Once = Once::new();
    let mut started = Ok(());
    STARTED.call_once(|| {
        let thread = thread::Builder::new().name("log".to_owned());
        // It ends with the process: what is logged last is to be written, too.
        started = thread.spawn(|| UNWRITTEN.write()).map(drop);
    });
    started
}

/// What the log says of itself goes to `notices` from now on.
pub(super) fn set_notices(notices: Dispatch) {
    // The first one stays: a process has one log.
    let _ = NOTICES.set(notices);
}

/// Writes the last `line` of the process behind all others: it is never left out. [`flush`] waits for it.
pub fn write_last(line: &str) {
    // Without a thread it is written if that can be done at once.
    let _ = start();
    let _ = UNWRITTEN.write_or_keep(&format!("{line}\n"), Unwritten::push);
}

/// Waits until all lines are written, for at most the time `limit`. Blocks.
pub fn flush(limit: Duration) {
    let is_unwritten = |unwritten: &mut Unwritten| !unwritten.is_empty() || unwritten.left_out > 0;
    let state = UNWRITTEN.state();
    let waited = UNWRITTEN
        .changed
        .wait_timeout_while(state, limit, is_unwritten);
    drop(waited.unwrap_or_else(PoisonError::into_inner));
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        UNWRITTEN.write_or_keep(&String::from_utf8_lossy(line), Unwritten::add)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl UnwrittenLines {
    /// Writes `line` if that can be done at once, and has it kept otherwise.
    fn write_or_keep(&self, line: &str, keep: fn(&mut Unwritten, String)) -> io::Result<()> {
        let shown = shorten(line);
        let mut unwritten = self.state();
        if unwritten.is_empty() && is_taken_at_once(shown.len()) {
            return io::stderr().write_all(shown.as_bytes());
        }
        keep(&mut unwritten, shown.into_owned());
        self.changed.notify_all();
        Ok(())
    }

    /// Writes what waits, for as long as the process lives.
    fn write(&self) {
        let mut state = self.state();
        loop {
            let Some(line) = state.take() else {
                let left_out = std::mem::take(&mut state.left_out);
                if left_out > 0 {
                    state.is_writing = true;
                    drop(state);
                    say_what_was_left_out(left_out);
                    state = self.state();
                    state.is_writing = false;
                    continue;
                }
                self.changed.notify_all();
                let waited = self.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            // Of an error nobody could be told.
            let _ = io::stderr().write_all(line.as_bytes());
            state = self.state();
            state.is_writing = false;
        }
    }

    fn state(&self) -> MutexGuard<'_, Unwritten> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unwritten {
    const fn new() -> Self {
        Self {
            lines: VecDeque::new(),
            bytes: 0,
            is_writing: false,
            left_out: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty() && !self.is_writing
    }

    /// Puts `line` behind the others, or leaves it out.
    fn add(&mut self, line: String) {
        if self.bytes + line.len() > MAX_BYTES {
            self.left_out += 1;
        } else {
            self.push(line);
        }
    }

    /// Puts `line` behind the others.
    fn push(&mut self, line: String) {
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    /// Takes the first line into hand.
    fn take(&mut self) -> Option<String> {
        let line = self.lines.pop_front()?;
        self.bytes -= line.len();
        self.is_writing = true;
        Some(line)
    }
}

fn say_what_was_left_out(lines: u64) {
    let notices = NOTICES.get().cloned().unwrap_or_default();
    dispatcher::with_default(&notices, || {
        tracing::warn!(lines, "the log left out lines: standard error was not read");
    });
}

/// Whether standard error takes so many bytes without waiting for anybody.
fn is_taken_at_once(bytes: usize) -> bool {
    let stderr = io::stderr();
    let is_file = fstat(&stderr).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
    if is_file {
        return true;
    }
    let mut ready = [PollFd::new(&stderr, PollFlags::OUT)];
    bytes <= PIPE_BUF && poll(&mut ready, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests;
