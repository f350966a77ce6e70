//! What `/proc` tells about a worker.

use std::time::Duration;

use procfs::{ProcError, process::Process};

use crate::model::Memory;

/// One look at a process from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Resident pages of mapped files, in bytes (RssFile).
    pub rss_file: u64,
    /// Bytes that it has read with system calls since its start (rchar).
    pub read_chars: u64,
    /// Processor time that it has used.
    pub cpu_time: Duration,
    /// Memory that only the end of the process gives back.
    pub memory: Memory,
}

// === impl Reading ===

impl Reading {
    /// Looks at the process `pid`. `None` when it is gone.
    pub fn take(pid: u32) -> Option<Self> {
        Self::read(pid).ok()
    }

    fn read(pid: u32) -> Result<Self, ProcError> {
        let process = Process::new(pid.cast_signed())?;
        let status = process.status()?;
        let stat = process.stat()?;
        let ticks = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
        Ok(Self {
            rss_file: kib(status.rssfile),
            read_chars: process.io()?.rchar,
            cpu_time: Duration::from_secs_f64(ticks),
            memory: Memory {
                host_bytes: kib(status.rssanon) + kib(status.rssshmem) + kib(status.vmswap),
                device_bytes: 0,
            },
        })
    }
}

/// The memory of the process `pid`. `None` when it is gone.
pub fn memory_of(pid: u32) -> Option<Memory> {
    Reading::take(pid).map(|reading| reading.memory)
}

fn kib(value: Option<u64>) -> u64 {
    value.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_read_and_one_that_is_gone_cannot() {
        let reading = Reading::take(std::process::id()).expect("this process runs");
        assert!(reading.memory.host_bytes > 0 && reading.rss_file > 0);
        assert_eq!(Reading::take(u32::MAX >> 1), None);
    }
}
