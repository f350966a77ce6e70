//! Processor time that is used for nothing.

use std::{
    collections::BTreeSet,
    io,
    process::{Child, Command},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;

use super::script::WorkKind;
use crate::processes::{cpu_time, this_thread, thread_cpu_time};

/// Somebody who works until this is dropped.
#[derive(Debug)]
pub(super) enum CpuLoad {
    Nobody,
    Thread(Arc<AtomicBool>),
    Child(Child, Arc<EngineTime>),
}

/// Processor time that the engine has used: those who work are all that there is of it.
#[derive(Debug, Default)]
pub(super) struct EngineTime(Mutex<CpuTimes>);

#[derive(Debug, Default)]
struct CpuTimes {
    running: BTreeSet<BusyId>,
    ended: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum BusyId {
    Thread(u32),
    Child(u32),
}

impl CpuLoad {
    pub(super) fn begin(kind: WorkKind, time: &Arc<EngineTime>) -> io::Result<Self> {
        Ok(match kind {
            WorkKind::Nobody => Self::Nobody,
            WorkKind::Thread => {
                let over = Arc::new(AtomicBool::new(false));
                let is_over = Arc::clone(&over);
                let time = Arc::clone(time);
                let thread = std::thread::Builder::new().name("work".to_owned());
                thread.spawn(move || {
                    let id = BusyId::Thread(this_thread());
                    time.begin(id);
                    while !is_over.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                    time.end(id);
                })?;
                Self::Thread(over)
            }
            WorkKind::Child => {
                let spin = "while kill -0 $PPID; do :; done";
                let child = Command::new("sh").args(["-c", spin]).spawn()?;
                time.begin(BusyId::Child(child.id()));
                Self::Child(child, Arc::clone(time))
            }
        })
    }
}

impl Drop for CpuLoad {
    fn drop(&mut self) {
        match self {
            Self::Nobody => {}
            Self::Thread(over) => over.store(true, Ordering::Relaxed),
            Self::Child(child, time) => {
                time.end(BusyId::Child(child.id()));
                // Both fail only for a process that has ended and was reaped.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

impl EngineTime {
    /// What it comes to now.
    pub(super) fn read(&self) -> Duration {
        let workers = self.workers();
        let running = workers.running.iter().filter_map(|id| id.cpu_time().ok());
        workers.ended + running.sum::<Duration>()
    }

    fn begin(&self, id: BusyId) {
        self.workers().running.insert(id);
    }

    fn end(&self, id: BusyId) {
        let mut workers = self.workers();
        workers.running.remove(&id);
        workers.ended += id.cpu_time().unwrap_or_default();
    }

    fn workers(&self) -> MutexGuard<'_, CpuTimes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BusyId {
    fn cpu_time(self) -> Result<Duration> {
        match self {
            Self::Thread(id) => thread_cpu_time(id),
            Self::Child(id) => cpu_time(id),
        }
    }
}

/// Uses so much processor time on this thread.
pub(super) fn work_for(time: Duration) {
    let thread = this_thread();
    let now = || thread_cpu_time(thread).unwrap_or(Duration::MAX);
    let end = now().saturating_add(time);
    while now() < end {
        std::hint::spin_loop();
    }
}
