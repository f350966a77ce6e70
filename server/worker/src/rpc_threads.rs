//! Processor time of the engine: that of the process without the threads that answer calls.
//!
//! Texts are split into tokens, templates filled in and images decoded on threads of the runtime; the engine computes on
//! threads of its own. So an engine that stands still can be told from one that works, whatever else is asked of the
//! worker meanwhile.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::thread::gettid;

/// The threads that answer calls of the service. Clones are the same threads.
#[derive(Clone, Debug, Default)]
pub(crate) struct RpcThreads(Arc<Mutex<RpcThreadState>>);

#[derive(Debug, Default)]
struct RpcThreadState {
    running: BTreeSet<i32>,
    /// Processor time of those that have ended.
    ended: Duration,
}

/// This thread is one of them until this is dropped.
#[derive(Debug)]
pub(crate) struct RpcThread(RpcThreads);

impl RpcThreads {
    /// All threads that there are now are such ones. For the time before there is an engine.
    pub(crate) fn adopt_all(&self) {
        let tasks = std::fs::read_dir("/proc/self/task");
        let names = tasks.into_iter().flatten().flatten();
        let ids = names.filter_map(|task| task.file_name().to_str()?.parse::<i32>().ok());
        self.threads().running.extend(ids);
    }

    /// This thread is one from now on.
    pub(crate) fn begin(&self) {
        self.threads().running.insert(this_thread());
    }

    /// This thread ends.
    pub(crate) fn end(&self) {
        let id = this_thread();
        let mut threads = self.threads();
        if threads.running.remove(&id) {
            threads.ended += cpu_time(clock_of(id));
        }
    }

    /// As [`Self::begin`], with its end.
    pub(crate) fn enter(&self) -> RpcThread {
        self.begin();
        RpcThread(self.clone())
    }

    /// Processor time that the process has used on all other threads.
    pub(crate) fn engine_cpu_time(&self) -> Duration {
        let all = cpu_time(libc::CLOCK_PROCESS_CPUTIME_ID);
        all.saturating_sub(self.threads().calls())
    }

    fn threads(&self) -> MutexGuard<'_, RpcThreadState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RpcThreadState {
    /// Processor time that they have used.
    fn calls(&self) -> Duration {
        let running = self.running.iter().map(|id| cpu_time(clock_of(*id)));
        self.ended + running.sum::<Duration>()
    }
}

impl Drop for RpcThread {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn this_thread() -> i32 {
    gettid().as_raw_nonzero().get()
}

/// The clock of a thread's processor time, as `pthread_getcpuclockid` makes it of the thread's number.
fn clock_of(thread: i32) -> libc::clockid_t {
    /// `CPUCLOCK_SCHED` with `CPUCLOCK_PERTHREAD_MASK`.
    const THREAD_TIME: libc::clockid_t = 2 | 4;
    (!thread << 3) | THREAD_TIME
}

/// What a clock of processor time shows; nothing for one of a thread that is gone.
fn cpu_time(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes one timespec, which it is given, and keeps nothing.
    #[allow(unsafe_code)]
    let succeeded = unsafe { libc::clock_gettime(clock, &raw mut time) } == 0;
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    if succeeded {
        Duration::from_secs(seconds) + Duration::from_nanos(nanos)
    } else {
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::sync_channel, thread};

    use super::*;

    const WORK: Duration = Duration::from_millis(100);

    /// Uses so much processor time on this thread.
    fn work() {
        let clock = clock_of(this_thread());
        let end = cpu_time(clock) + WORK;
        while cpu_time(clock) < end {
            std::hint::spin_loop();
        }
    }

    #[bounded::test]
    fn what_threads_of_calls_use_is_not_the_engines() {
        let threads = RpcThreads::default();
        let own = threads.clone();
        let (worked, has_worked) = sync_channel::<()>(0);
        let (end, ended) = sync_channel::<()>(0);
        let thread = thread::Builder::new().spawn(move || {
            let _call = own.enter();
            work();
            worked.send(()).expect("somebody waits");
            ended.recv().expect("somebody ends it");
        });
        has_worked.recv().expect("it worked");
        assert!(threads.threads().calls() >= WORK);
        end.send(()).expect("it waits");
        thread.expect("a thread").join().expect("its end");
        assert!(threads.threads().running.is_empty());
        assert!(threads.threads().calls() >= WORK, "it is forgotten");

        // What the threads of other tests use counts, too.
        let before = threads.engine_cpu_time();
        work();
        assert!(threads.engine_cpu_time() >= before + WORK);
        threads.adopt_all();
        assert!(threads.threads().running.contains(&this_thread()));
    }
}
