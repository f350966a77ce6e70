//! Whether tasks turn.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::failure::TaskName;

/// Liveness of one task. While it neither rests nor is marked alive, its task does not turn. It is watched until it is dropped.
#[derive(Debug)]
pub struct LivenessProbe {
    probes: LivenessProbes,
    number: u64,
    state: Arc<ProbeState>,
}

/// All probes. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct LivenessProbes(Arc<Probes>);

#[derive(Debug)]
struct Probes {
    limit: Duration,
    next: AtomicU64,
    states: Mutex<BTreeMap<u64, Arc<ProbeState>>>,
}

#[derive(Debug)]
struct ProbeState {
    name: TaskName,
    /// What the task may take from one mark to the next besides the limit.
    period: Duration,
    /// When it was marked last, in milliseconds of this process; [`RESTS`]: it rests.
    last: AtomicU64,
    owner: Option<TaskOwner>,
}

/// Whom a task belongs to that the server can do without.
pub(super) struct TaskOwner {
    /// Says that the task does not turn.
    report: Box<dyn Fn() + Send + Sync>,
    reported: AtomicBool,
}

/// Of a probe that rests.
const RESTS: u64 = u64::MAX;

/// When time begins.
static PROCESS_START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl LivenessProbe {
    /// The task turns.
    pub fn mark_alive(&self) {
        self.state.last.store(now(), Ordering::Relaxed);
    }

    /// The task need not turn until the next mark.
    pub fn pause(&self) {
        self.state.last.store(RESTS, Ordering::Relaxed);
    }
}

impl Drop for LivenessProbe {
    fn drop(&mut self) {
        self.probes.states().remove(&self.number);
    }
}

impl LivenessProbes {
    pub(super) fn new(limit: Duration) -> Self {
        Self(Arc::new(Probes {
            limit,
            next: AtomicU64::new(0),
            states: Mutex::default(),
        }))
    }

    /// One more, of a task that is marked alive at least once in each `period`.
    pub(super) fn add(
        &self,
        name: TaskName,
        period: Duration,
        owner: Option<TaskOwner>,
    ) -> LivenessProbe {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(ProbeState {
            name,
            period,
            last: AtomicU64::new(now()),
            owner,
        });
        self.states().insert(number, state.clone());
        LivenessProbe {
            probes: self.clone(),
            number,
            state,
        }
    }

    /// Names of the tasks that the server cannot do without and that have not turned for too long.
    pub(super) fn stuck(&self) -> Vec<TaskName> {
        let states = self.states();
        let states = states.values().filter(|state| state.owner.is_none());
        let stuck = states.filter(|state| state.is_stuck(self.0.limit));
        stuck.map(|state| state.name.clone()).collect()
    }

    /// Notifies owners of their tasks that have not turned for too long, once until they turn again.
    pub(super) fn report_stuck_tasks(&self) {
        let owned: Vec<_> = {
            let states = self.states();
            let owned = states.values().filter(|state| state.owner.is_some());
            owned.cloned().collect()
        };
        for state in owned {
            let Some(owner) = &state.owner else { continue };
            let is_stuck = state.is_stuck(self.0.limit);
            if is_stuck && !owner.reported.swap(true, Ordering::Relaxed) {
                (owner.report)();
                tracing::error!(task = %state.name, "a model's task no longer turns");
            } else if !is_stuck && owner.reported.swap(false, Ordering::Relaxed) {
                tracing::warn!(task = %state.name, "a model's task turns again");
            }
        }
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<ProbeState>>> {
        self.0.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProbeState {
    fn is_stuck(&self, limit: Duration) -> bool {
        match self.last.load(Ordering::Relaxed) {
            RESTS => false,
            last => {
                let passed = now().saturating_sub(last);
                Duration::from_millis(passed) > limit.saturating_add(self.period)
            }
        }
    }
}

impl TaskOwner {
    pub(super) fn new(report: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            report: Box::new(report),
            reported: AtomicBool::new(false),
        }
    }
}

impl fmt::Debug for TaskOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskOwner").finish_non_exhaustive()
    }
}

/// Milliseconds since time began.
fn now() -> u64 {
    u64::try_from(PROCESS_START.elapsed().as_millis()).unwrap_or(RESTS - 1)
}
