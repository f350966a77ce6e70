//! A process that gets a small part of a processor, as on a machine that has many other things to do.

use std::{
    sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use anyhow::Result;
use rustix::process::Signal;

use crate::processes;

/// Stops a process each time that it has used some processor time, and lets it go on later. Dropping it gives
/// the process all its time back.
#[derive(Debug)]
pub struct Throttle {
    end: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Processor time in one turn: the least that the kernel counts.
const TURN: Duration = Duration::from_millis(10);

/// Between two looks at what the process has used.
const CHECK_INTERVAL: Duration = Duration::from_millis(1);

impl Throttle {
    /// Slows the process down to the `part`th part of a processor.
    ///
    /// # Errors
    ///
    /// When there is no such process.
    pub fn start(pid: u32, part: u32) -> Result<Self> {
        let rest = TURN * (part - 1);
        let mut used = processes::cpu_time(pid)?;
        let (end, ended) = sync_channel::<()>(1);
        let over = move |time| ended.recv_timeout(time) != Err(RecvTimeoutError::Timeout);
        let thread = Builder::new().name("throttle".to_owned()).spawn(move || {
            // It ends with the process, too.
            while let Ok(now) = processes::cpu_time(pid) {
                if now < used + TURN {
                    if over(CHECK_INTERVAL) {
                        return;
                    }
                    continue;
                }
                used = now;
                let stopped = processes::signal(pid, Signal::STOP);
                let over = over(rest);
                let resumed = processes::signal(pid, Signal::CONT);
                if over || stopped.is_err() || resumed.is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
