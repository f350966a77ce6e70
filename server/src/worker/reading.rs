//! What `/proc` shows about a worker.

use std::time::Duration;

use procfs::{
    ProcError,
    process::{Process, Stat, Status},
};

use crate::model::ModelMemory;

/// One look at a process from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessReading {
    /// Resident pages of mapped files, in bytes (RssFile).
    pub rss_file: u64,
    /// Bytes that it has read with system calls since its start (rchar).
    pub read_chars: u64,
    /// Processor time that it has used, and those of its children that it has reaped.
    pub cpu_time: Duration,
    /// Processor time of all processes that descend from it and live. Nothing where the system does not say.
    pub descendants_cpu_time: Duration,
    /// Memory that only the end of the process gives back, that of all processes that descend from it included.
    pub memory: ModelMemory,
    /// The process's own part of that, in bytes.
    pub own_bytes: u64,
}

impl ProcessReading {
    /// Looks at the process `pid`. `None` when it is gone.
    pub fn take(pid: u32) -> Option<Self> {
        Self::read(pid).ok()
    }

    fn read(pid: u32) -> Result<Self, ProcError> {
        let process = Process::new(pid.cast_signed())?;
        let status = process.status()?;
        let stat = process.stat()?;
        let own_bytes = held(&status);
        let mut host_bytes = own_bytes;
        let mut descendants_cpu_time = Duration::ZERO;
        for child in descendants(pid) {
            // One that ends meanwhile takes nothing any more.
            let Ok(child) = Process::new(child.cast_signed()) else {
                continue;
            };
            host_bytes =
                host_bytes.saturating_add(child.status().map_or(0, |status| held(&status)));
            descendants_cpu_time += child.stat().map_or(Duration::ZERO, |stat| cpu_time(&stat));
        }
        Ok(Self {
            own_bytes,
            rss_file: kib(status.rssfile),
            read_chars: process.io()?.rchar,
            cpu_time: cpu_time(&stat),
            descendants_cpu_time,
            memory: ModelMemory {
                host_bytes,
                device_bytes: 0,
            },
        })
    }
}

/// More are not looked at.
const MOST_DESCENDANTS: usize = 64;

/// Processes that descend from `pid` and live.
fn descendants(pid: u32) -> Vec<u32> {
    let mut found = children_of(pid);
    let mut all = Vec::new();
    while let Some(child) = found.pop()
        && all.len() < MOST_DESCENDANTS
    {
        all.push(child);
        found.extend(children_of(child));
    }
    all
}

/// The children of the process `pid`, ended ones that were not reaped included. None where the system does not say.
pub(super) fn children_of(pid: u32) -> Vec<u32> {
    let tasks = Process::new(pid.cast_signed()).and_then(|process| process.tasks());
    let tasks = tasks.into_iter().flatten().flatten();
    tasks
        .filter_map(|task| task.children().ok())
        .flatten()
        .collect()
}

fn cpu_time(stat: &Stat) -> Duration {
    let reaped = u64::try_from(stat.cutime + stat.cstime).unwrap_or(0);
    let ticks = stat.utime + stat.stime + reaped;
    Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64)
}

/// Memory that only the end of a process gives back, in bytes.
fn held(status: &Status) -> u64 {
    kib(status.rssanon) + kib(status.rssshmem) + kib(status.vmswap)
}

fn kib(value: Option<u64>) -> u64 {
    value.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    #[bounded::test]
    fn this_process_can_be_read_and_one_that_is_gone_cannot() {
        let reading = ProcessReading::take(std::process::id()).expect("this process runs");
        assert!(reading.memory.host_bytes > 0 && reading.rss_file > 0);
        assert_eq!(ProcessReading::take(u32::MAX >> 1), None);
    }

    #[bounded::test]
    fn what_descendants_use_is_seen() {
        let spin = "while :; do :; done";
        let mut shell = std::process::Command::new("sh")
            .args(["-c", &format!("sh -c '{spin}' & wait")])
            .spawn()
            .expect("a shell");
        let own = std::process::id();
        let used = || ProcessReading::take(own).map(|reading| reading.descendants_cpu_time);
        while used() < Some(Duration::from_millis(30)) {
            std::thread::yield_now();
        }
        for child in children_of(shell.id()).into_iter().chain([shell.id()]) {
            let child = rustix::process::Pid::from_raw(child.cast_signed()).expect("a process");
            rustix::process::kill_process(child, rustix::process::Signal::KILL).expect("a kill");
        }
        shell.wait().expect("an end");
        assert!(descendants(u32::MAX >> 1).is_empty());
    }

    #[bounded::test]
    fn what_descendants_hold_is_a_part_of_the_memory() {
        const HELD: u64 = 32 << 20;
        let hold = format!("x=$(head -c {HELD} /dev/zero | tr '\\0' a); echo held; read end");
        let mut shell = std::process::Command::new("sh")
            .args(["-c", &hold])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut holds = BufReader::new(shell.stdout.take().expect("a pipe"));
        holds.read_line(&mut String::new()).expect("a line");
        let reading = ProcessReading::take(std::process::id()).expect("this process runs");
        assert!(reading.memory.host_bytes >= reading.own_bytes + HELD);
        drop(shell.stdin.take());
        shell.wait().expect("an end");
    }
}
