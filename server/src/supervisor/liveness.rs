//! Whether tasks turn.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Name, Supervisor};

/// Liveness of one task. While it neither rests nor is marked alive, its task does not turn. It is watched until it is dropped.
#[derive(Debug)]
pub struct LivenessProbe {
    supervisor: Supervisor,
    number: u64,
    state: Arc<ProbeState>,
}

/// All probes.
#[derive(Debug)]
pub(super) struct LivenessProbes {
    limit: Duration,
    next: AtomicU64,
    states: Mutex<BTreeMap<u64, Arc<ProbeState>>>,
}

#[derive(Debug)]
struct ProbeState {
    name: Name,
    /// What the task may take from one mark to the next besides the limit.
    period: Duration,
    /// When it was marked last, in milliseconds of this process; [`RESTS`]: it rests.
    last: AtomicU64,
}

/// Of a probe that rests.
const RESTS: u64 = u64::MAX;

/// When time begins.
static PROCESS_START: LazyLock<Instant> = LazyLock::new(Instant::now);

// === impl LivenessProbe ===

impl LivenessProbe {
    pub(super) fn new(supervisor: Supervisor, name: Name, period: Duration) -> Self {
        let probes = &supervisor.0.probes;
        let number = probes.next.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(ProbeState {
            name,
            period,
            last: AtomicU64::new(now()),
        });
        probes.states().insert(number, state.clone());
        Self {
            supervisor,
            number,
            state,
        }
    }

    /// The task turns.
    pub fn mark_alive(&self) {
        self.state.last.store(now(), Ordering::Relaxed);
    }

    /// The task need not turn until the next mark.
    pub fn rest(&self) {
        self.state.last.store(RESTS, Ordering::Relaxed);
    }
}

impl Drop for LivenessProbe {
    fn drop(&mut self) {
        self.supervisor.0.probes.states().remove(&self.number);
    }
}

// === impl LivenessProbes ===

impl LivenessProbes {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            next: AtomicU64::new(0),
            states: Mutex::default(),
        }
    }

    /// Names of the tasks that have not turned for too long.
    pub(super) fn stuck(&self) -> Vec<Name> {
        let now = Duration::from_millis(now());
        let is_stuck = |state: &&Arc<ProbeState>| match state.last.load(Ordering::Relaxed) {
            RESTS => false,
            last => {
                now.saturating_sub(Duration::from_millis(last))
                    > self.limit.saturating_add(state.period)
            }
        };
        let states = self.states();
        let stuck = states.values().filter(is_stuck);
        stuck.map(|state| state.name.clone()).collect()
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<ProbeState>>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds since time began.
fn now() -> u64 {
    u64::try_from(PROCESS_START.elapsed().as_millis()).unwrap_or(RESTS - 1)
}
