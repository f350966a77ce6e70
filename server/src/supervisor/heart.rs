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

/// The heart of one task. While it neither rests nor beats, its task does not turn. It is watched until it is dropped.
#[derive(Debug)]
pub struct Heart {
    supervisor: Supervisor,
    number: u64,
    beat: Arc<Beat>,
}

/// All hearts.
#[derive(Debug)]
pub(super) struct Hearts {
    patience: Duration,
    next: AtomicU64,
    beats: Mutex<BTreeMap<u64, Arc<Beat>>>,
}

#[derive(Debug)]
struct Beat {
    name: Name,
    /// What the task may take from one beat to the next besides the patience.
    period: Duration,
    /// When it beat last, in milliseconds of this process; [`RESTS`]: it rests.
    last: AtomicU64,
}

/// Of a heart that rests.
const RESTS: u64 = u64::MAX;

/// When time begins.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

// === impl Heart ===

impl Heart {
    pub(super) fn new(supervisor: Supervisor, name: Name, period: Duration) -> Self {
        let hearts = &supervisor.0.hearts;
        let number = hearts.next.fetch_add(1, Ordering::Relaxed);
        let beat = Arc::new(Beat {
            name,
            period,
            last: AtomicU64::new(now()),
        });
        hearts.beats().insert(number, beat.clone());
        Self {
            supervisor,
            number,
            beat,
        }
    }

    /// The task turns.
    pub fn beat(&self) {
        self.beat.last.store(now(), Ordering::Relaxed);
    }

    /// The task need not turn until the next beat.
    pub fn rest(&self) {
        self.beat.last.store(RESTS, Ordering::Relaxed);
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.supervisor.0.hearts.beats().remove(&self.number);
    }
}

// === impl Hearts ===

impl Hearts {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            next: AtomicU64::new(0),
            beats: Mutex::default(),
        }
    }

    /// Names of the tasks that have not turned for too long.
    pub(super) fn stuck(&self) -> Vec<Name> {
        let now = Duration::from_millis(now());
        let is_stuck = |beat: &&Arc<Beat>| match beat.last.load(Ordering::Relaxed) {
            RESTS => false,
            last => {
                now.saturating_sub(Duration::from_millis(last))
                    > self.patience.saturating_add(beat.period)
            }
        };
        let beats = self.beats();
        let stuck = beats.values().filter(is_stuck);
        stuck.map(|beat| beat.name.clone()).collect()
    }

    fn beats(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Beat>>> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds since time began.
fn now() -> u64 {
    u64::try_from(BEGAN.elapsed().as_millis()).unwrap_or(RESTS - 1)
}
