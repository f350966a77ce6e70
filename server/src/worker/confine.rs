//! Limits on a worker that the server sets from outside.

use std::{fs, io};

use procfs::process::Process;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// What a worker may have beyond its model's memory, in bytes: stacks of threads and what allocators keep
/// in reserve count against the limit although nobody uses them.
const SLACK: u64 = 512 << 20;

/// Lets the worker `pid` take at most `bytes` of private memory more than it has now (RLIMIT_DATA): an
/// allocation beyond that fails in that worker.
///
/// # Errors
///
/// When the process is gone.
pub fn limit_memory(pid: u32, bytes: u64) -> io::Result<()> {
    let process = Process::new(pid.cast_signed()).map_err(io::Error::other)?;
    let status = process.status().map_err(io::Error::other)?;
    let now = status.vmdata.unwrap_or_default().saturating_mul(1024);
    let limit = now.saturating_add(bytes).saturating_add(SLACK);
    let limit = Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    prlimit(Pid::from_raw(pid.cast_signed()), Resource::Data, limit)?;
    Ok(())
}

/// Makes the worker `pid` the first to go when the system runs out of memory.
///
/// # Errors
///
/// When the process is gone.
pub(super) fn offer_to_the_oom_killer(pid: u32) -> io::Result<()> {
    fs::write(format!("/proc/{pid}/oom_score_adj"), "1000")
}
