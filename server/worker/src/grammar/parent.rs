//! The process that follows a grammar, seen from the worker.

use std::{
    io::{Error, ErrorKind, Read, Result},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    child::ARGUMENT,
    wire::{self, GrammarCall, GrammarReply},
};

/// A process for grammars. Dropping it kills and reaps it.
pub(super) struct GrammarProcess {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    is_busy: bool,
}

/// The process's output, as long as something comes in time.
struct TimedOutput<'a> {
    output: &'a mut ChildStdout,
    deadline: Instant,
}

impl GrammarProcess {
    /// Starts a process.
    pub(super) fn start() -> Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg0("hangar-worker")
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::other("the process has no pipes"));
        };
        Ok(Self {
            child,
            input,
            output,
            is_busy: false,
        })
    }

    /// Sends the process a message. It answers everything but the tokens.
    pub(super) fn send(&mut self, call: &GrammarCall) -> Result<()> {
        self.is_busy |= call.table.is_none();
        wire::write(&mut self.input, call)
    }

    /// What the process answers; an error of kind `TimedOut` when it does not in time.
    pub(super) fn receive(&mut self, within: Duration) -> Result<GrammarReply> {
        let mut timely = TimedOutput {
            output: &mut self.output,
            deadline: Instant::now() + within,
        };
        let reply = wire::read(&mut timely)?;
        self.is_busy = false;
        Ok(reply)
    }

    /// Memory that it holds, in bytes.
    pub(super) fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        kibibytes.unwrap_or(0u64).saturating_mul(1024)
    }

    /// Whether it was asked something that it has not answered.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy
    }
}

impl Drop for GrammarProcess {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and was reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Read for TimedOutput<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(Error::other)?;
            let mut ready = [PollFd::new(&*self.output, PollFlags::IN)];
            match poll(&mut ready, Some(&left)) {
                Ok(0) => return Err(ErrorKind::TimedOut.into()),
                Ok(_) => return self.output.read(buffer),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}
