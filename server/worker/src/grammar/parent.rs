//! The process that follows a grammar, seen from the worker.

use std::{
    io::{Error, ErrorKind, Read, Result, Write},
    os::{fd::AsFd, unix::process::CommandExt},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::ioctl_fionbio,
};
use tokio_util::sync::CancellationToken;

use super::{
    child::ARGUMENT,
    wire::{self, GrammarCall, GrammarReply},
};

/// Time between two looks at whether somebody still waits.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A process for grammars. Dropping it kills and reaps it.
pub(super) struct GrammarProcess {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    is_busy: bool,
}

/// How long somebody waits for a process.
#[derive(Clone, Copy)]
pub(super) struct WaitLimit<'a> {
    /// Until then at most.
    pub(super) deadline: Instant,
    /// Cancelled when they have gone.
    pub(super) cancelled: &'a CancellationToken,
}

/// The process's input and output, as long as somebody waits for them.
struct LimitedPipe<'a, T> {
    pipe: &'a mut T,
    limit: WaitLimit<'a>,
}

impl GrammarProcess {
    /// Starts a process.
    pub(super) fn start() -> Result<Self> {
        let mut program = Command::new("/proc/self/exe");
        program.arg0("hangar-worker").arg(ARGUMENT);
        Self::of(program)
    }

    fn of(mut program: Command) -> Result<Self> {
        let mut child = program
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::other("the process has no pipes"));
        };
        let process = Self {
            child,
            input,
            output,
            is_busy: false,
        };
        // Else what it does not read holds up whoever writes.
        ioctl_fionbio(&process.input, true)?;
        Ok(process)
    }

    /// Sends the process a message. It answers everything but the tokens. The error is as that of [`Self::receive`].
    pub(super) fn send(&mut self, call: &GrammarCall, limit: WaitLimit<'_>) -> Result<()> {
        self.is_busy |= call.table.is_none();
        let pipe = &mut self.input;
        wire::write(&mut LimitedPipe { pipe, limit }, call)
    }

    /// What the process answers; an error of kind `TimedOut` when it does not in time, and of kind `ConnectionAborted`
    /// when nobody waits for it any more.
    pub(super) fn receive(&mut self, limit: WaitLimit<'_>) -> Result<GrammarReply> {
        let pipe = &mut self.output;
        let reply = wire::read(&mut LimitedPipe { pipe, limit })?;
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

impl WaitLimit<'_> {
    /// Waits until a pipe can be read from, or written to.
    fn wait_for(self, pipe: &impl AsFd, what: PollFlags) -> Result<()> {
        loop {
            if self.cancelled.is_cancelled() {
                return Err(ErrorKind::ConnectionAborted.into());
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            let next = Timespec::try_from(left.min(LOOK_INTERVAL)).map_err(Error::other)?;
            match poll(&mut [PollFd::new(pipe, what)], Some(&next)) {
                Ok(0) if left.is_zero() => return Err(ErrorKind::TimedOut.into()),
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl Read for LimitedPipe<'_, ChildStdout> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.limit.wait_for(self.pipe, PollFlags::IN)?;
        self.pipe.read(buffer)
    }
}

impl Write for LimitedPipe<'_, ChildStdin> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        loop {
            self.limit.wait_for(self.pipe, PollFlags::OUT)?;
            match self.pipe.write(bytes) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::wire::TokenTable, *};

    /// A process that neither reads nor writes.
    fn idler() -> GrammarProcess {
        let mut program = Command::new("sleep");
        program.arg("3600");
        GrammarProcess::of(program).expect("a process")
    }

    /// More than a pipe holds.
    fn table() -> GrammarCall {
        GrammarCall::table(TokenTable {
            tokens: vec![vec![0; 1024]; 1024],
        })
    }

    #[bounded::test]
    fn what_a_process_does_not_read_is_not_written_for_ever() {
        let mut process = idler();
        let never = CancellationToken::new();
        let limit = || WaitLimit {
            deadline: Instant::now() + LOOK_INTERVAL,
            cancelled: &never,
        };
        let late = process.send(&table(), limit()).expect_err("no reader");
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        let late = process.receive(limit()).expect_err("no writer");
        assert_eq!(late.kind(), ErrorKind::TimedOut);
    }

    #[bounded::test]
    fn nobody_waits_for_a_process_once_they_are_cancelled() {
        let mut process = idler();
        let cancelled = CancellationToken::new();
        let limit = WaitLimit {
            deadline: Instant::now() + Duration::from_secs(3600),
            cancelled: &cancelled,
        };
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let sent = process.send(&table(), limit).expect_err("no reader");
                let received = process.receive(limit).expect_err("no writer");
                [sent.kind(), received.kind()]
            });
            cancelled.cancel();
            let kinds = waiting.join().expect("no panic");
            assert_eq!(kinds, [ErrorKind::ConnectionAborted; 2]);
        });
    }
}
