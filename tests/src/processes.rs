//! Processes as the kernel shows them: a view of the server and its workers from outside.

use std::{collections::BTreeSet, io, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use procfs::{
    net::{TcpNetEntry, TcpState},
    process::{FDTarget, Process, Status, all_processes},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};
use tokio::time::{interval, timeout};

const KIB: u64 = 1024;

/// Memory that a process holds in bytes: RssAnon + RssShmem + VmSwap.
///
/// # Errors
///
/// When there is no such process.
pub fn host_bytes(pid: u32) -> Result<u64> {
    let status = status(pid)?;
    let parts = [status.rssanon, status.rssshmem, status.vmswap];
    Ok(parts.into_iter().flatten().sum::<u64>() * KIB)
}

/// File pages that a process has mapped, in bytes: RssFile.
///
/// # Errors
///
/// When there is no such process.
pub fn file_bytes(pid: u32) -> Result<u64> {
    Ok(status(pid)?.rssfile.unwrap_or(0) * KIB)
}

/// Memory of a process that is in the machine's, file pages included, in bytes: VmRSS.
///
/// # Errors
///
/// When there is no such process.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    Ok(status(pid)?.vmrss.unwrap_or(0) * KIB)
}

/// Most memory that a process has had at a time, file pages included, in bytes: VmHWM.
///
/// # Errors
///
/// When there is no such process.
pub fn peak_bytes(pid: u32) -> Result<u64> {
    Ok(status(pid)?.vmhwm.unwrap_or(0) * KIB)
}

/// Processor time that a process has used, all of its threads together.
///
/// # Errors
///
/// When there is no such process.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = process(pid)?.stat()?;
    let ticks = (stat.utime + stat.stime) as f64;
    Ok(Duration::from_secs_f64(
        ticks / procfs::ticks_per_second() as f64,
    ))
}

/// The thread that calls.
pub fn this_thread() -> u32 {
    rustix::thread::gettid().as_raw_pid().cast_unsigned()
}

/// Processor time that a thread of this process has used.
///
/// # Errors
///
/// When there is no such thread.
pub fn thread_cpu_time(thread: u32) -> Result<Duration> {
    let task = Process::myself()?.task_from_tid(thread.cast_signed())?;
    let stat = task.stat()?;
    let ticks = (stat.utime + stat.stime) as f64;
    Ok(Duration::from_secs_f64(
        ticks / procfs::ticks_per_second() as f64,
    ))
}

/// Waits until a process does nothing any more: it used no processor time for a while.
///
/// # Errors
///
/// When it has always used some, or there is no such process.
pub async fn at_rest(pid: u32, within: Duration) -> Result<()> {
    let mut ticks = interval(Duration::from_millis(200));
    let rest = async {
        let mut before = None;
        loop {
            ticks.tick().await;
            let now = cpu_time(pid)?;
            // Heartbeats take a little.
            let is_little = |used: Duration| used < Duration::from_millis(20);
            if before.is_some_and(|before| is_little(now.saturating_sub(before))) {
                return Ok(());
            }
            before = Some(now);
        }
    };
    let rest = timeout(within, rest).await;
    rest.with_context(|| format!("process {pid} is not at rest"))?
}

/// Number of open file descriptors of a process.
///
/// # Errors
///
/// When there is no such process.
pub fn open_files(pid: u32) -> Result<usize> {
    Ok(process(pid)?.fd_count()?)
}

/// Number of threads of a process.
///
/// # Errors
///
/// When there is no such process.
pub fn threads(pid: u32) -> Result<u64> {
    Ok(status(pid)?.threads)
}

/// Whether there is such a process, and be it a zombie.
pub fn exists(pid: u32) -> bool {
    process(pid).is_ok_and(|process| process.is_alive() || process.stat().is_ok())
}

/// Whether there is such a process that has not ended.
pub fn is_running(pid: u32) -> bool {
    process(pid)
        .and_then(|process| Ok(process.stat()?))
        .is_ok_and(|stat| stat.state != 'Z')
}

/// Children of a process, zombies included.
///
/// # Errors
///
/// When `/proc` cannot be read.
pub fn children(pid: u32) -> Result<Vec<u32>> {
    let stats = all_processes()?
        .flatten()
        .filter_map(|process| process.stat().ok());
    let children = stats.filter(|stat| u32::try_from(stat.ppid) == Ok(pid));
    Ok(children
        .filter_map(|stat| u32::try_from(stat.pid).ok())
        .collect())
}

/// Sends a signal.
///
/// # Errors
///
/// When there is no such process.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    Ok(kill_process(number(pid)?, signal)?)
}

/// Waits until a process has ended; one that is not there has.
///
/// # Errors
///
/// When it has not ended in time.
pub async fn ended(pid: u32, within: Duration) -> Result<()> {
    let descriptor = match pidfd_open(number(pid)?, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        descriptor => descriptor.map_err(io::Error::from)?,
    };
    let limit = Timespec::try_from(within)?;
    let wait = tokio::task::spawn_blocking(move || {
        poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&limit))
    });
    anyhow::ensure!(
        wait.await?? == 1,
        "process {pid} has not ended within {within:?}"
    );
    Ok(())
}

/// Stops a process, as SIGSTOP does, and waits until none of its threads runs any more: on a busy machine some go on for a
/// while after the signal.
///
/// # Errors
///
/// When there is no such process, or it goes on for longer than that.
pub async fn stop(pid: u32, within: Duration) -> Result<()> {
    signal(pid, Signal::STOP)?;
    eventually("the process is stopped", within, || {
        let mut tasks = process(pid).ok()?.tasks().ok()?.flatten();
        // A thread that has ended meanwhile runs no more.
        let stopped = tasks.all(|task| task.stat().map_or(true, |stat| stat.state == 'T'));
        stopped.then_some(())
    })
    .await
}

/// Where a process listens for TCP connections.
///
/// # Errors
///
/// When there is no such process.
pub fn listening(pid: u32) -> Result<Vec<SocketAddr>> {
    let mut sockets = BTreeSet::new();
    for file in process(pid)?.fd()? {
        if let FDTarget::Socket(inode) = file?.target {
            sockets.insert(inode);
        }
    }
    let listens =
        |entry: &TcpNetEntry| entry.state == TcpState::Listen && sockets.contains(&entry.inode);
    let entries = procfs::net::tcp()?.into_iter().filter(listens);
    Ok(entries.map(|entry| entry.local_address).collect())
}

/// Waits until something is so that no event shows, such as the number of a process's descriptors.
///
/// # Errors
///
/// When it is not so in time.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T> {
    let mut ticks = interval(Duration::from_millis(5));
    let found = async {
        loop {
            ticks.tick().await;
            if let Some(found) = look() {
                return found;
            }
        }
    };
    timeout(within, found)
        .await
        .with_context(|| format!("not within {within:?}: {what}"))
}

fn process(pid: u32) -> Result<Process> {
    Ok(Process::new(i32::try_from(pid)?)?)
}

fn status(pid: u32) -> Result<Status> {
    process(pid)?
        .status()
        .with_context(|| format!("process {pid}"))
}

fn number(pid: u32) -> Result<Pid> {
    Pid::from_raw(i32::try_from(pid)?).context("zero is no process")
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::server::DEADLINE;

    #[hangar_tests::test]
    async fn a_child_is_seen_until_it_is_reaped() -> Result<()> {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn()?;
        let pid = child.id();
        assert!(children(std::process::id())?.contains(&pid));
        assert!(is_running(pid) && exists(pid));
        assert!(ended(pid, Duration::from_millis(1)).await.is_err());
        drop(child.stdin.take());
        ended(pid, DEADLINE).await?;
        assert!(!is_running(pid) && exists(pid));
        child.wait()?;
        assert!(!exists(pid));
        ended(pid, DEADLINE).await?;
        Ok(())
    }

    #[hangar_tests::test]
    fn allocated_memory_is_seen() -> Result<()> {
        let pid = std::process::id();
        let before = host_bytes(pid)?;
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        let grown = host_bytes(pid)?.saturating_sub(before);
        assert!(grown > 60 << 20, "{grown} of {}", block.len());
        assert!(file_bytes(pid)? > 0 && open_files(pid)? > 2 && threads(pid)? > 0);
        Ok(())
    }
}
