//! Whether a worker moves: one measure for loads and for engines.
//!
//! What moves is slow at most. A worker moves while it or a process of its own uses processor time, or its
//! device works; a load also while bytes are read. How long it works without an end in sight is counted in
//! the time that it really worked: one that gets a hundredth of a processor has a hundred times as long.

use std::time::Duration;

use tokio::time::Instant;

use crate::worker::{self, Reading};

/// What is seen of a worker's work.
#[derive(Debug)]
pub(super) struct ActivityTracker {
    pid: u32,
    /// When it was last seen to move, and where it stood then.
    last_active: Instant,
    totals_then: ActivityTotals,
    /// The last look.
    observed: Instant,
    observed_totals: ActivityTotals,
    /// What it worked since it last got ahead.
    worked: Duration,
}

/// Where a worker stands.
#[derive(Clone, Copy, Debug, Default)]
struct ActivityTotals {
    rss_file: u64,
    read_chars: u64,
    own: Duration,
    /// Of its descendants, once anybody has looked.
    descendants: Option<Duration>,
}

/// What else a look at a worker has shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observation {
    /// Whether bytes that it reads are what it is there for.
    pub(super) reads: bool,
    /// Whether its device works.
    pub(super) device: bool,
    /// How long it may stand still.
    pub(super) limit: Duration,
}

/// Part of a limit that a worker has to work within it: more than one takes that only waits, and less than
/// one that gets a hundredth of a processor.
const SHARE: u32 = 200;

/// The least that counts as work: the kernel tells processor time in hundredths of a second.
const LEAST: Duration = Duration::from_millis(20);

// === impl ActivityTracker ===

impl ActivityTracker {
    /// A worker that has just moved.
    pub(super) fn new(pid: u32, reading: &Reading) -> Self {
        let now = Instant::now();
        let totals_then = ActivityTotals::of(reading);
        Self {
            pid,
            last_active: now,
            totals_then,
            observed: now,
            observed_totals: totals_then,
            worked: Duration::ZERO,
        }
    }

    /// It has no reason to move at present.
    pub(super) fn reset_inactivity(&mut self) {
        self.last_active = Instant::now();
    }

    /// It got ahead: what it works from now on is for the next step.
    pub(super) fn progressed(&mut self, reading: &Reading) {
        *self = Self::new(self.pid, reading);
    }

    /// Takes note of a look at it.
    pub(super) fn observe(&mut self, reading: &Reading, observation: Observation) {
        let least = LEAST.max(observation.limit / SHARE);
        let mut totals = ActivityTotals::of(reading);
        let enough = totals.own >= self.totals_then.own + least;
        // They are looked for only where the answer counts.
        if !enough && !observation.device {
            totals.descendants = Some(worker::descendants_cpu_time(self.pid));
        }
        let now = Instant::now();
        self.count(&totals, now, observation.device);
        let read = observation.reads && totals.has_read(&self.totals_then);
        if enough || read || observation.device || totals.cpu_time_since(&self.totals_then) >= least
        {
            self.last_active = now;
            self.totals_then = totals;
        } else if self.totals_then.descendants.is_none() {
            self.totals_then.descendants = totals.descendants;
        }
    }

    /// When it was last seen to move.
    pub(super) fn last_active(&self) -> Instant {
        self.last_active
    }

    /// How long it has stood still since the moment `since`.
    pub(super) fn inactive_for(&self, since: Instant) -> Duration {
        self.last_active.max(since).elapsed()
    }

    /// How long it worked since it last got ahead.
    pub(super) fn worked(&self) -> Duration {
        self.worked
    }

    /// Counts the time since the last look as worked, as far as it was.
    fn count(&mut self, totals: &ActivityTotals, now: Instant, device: bool) {
        let passed = now - self.observed;
        let worked = if device {
            passed
        } else {
            passed.min(totals.cpu_time_since(&self.observed_totals))
        };
        self.worked += worked;
        self.observed = now;
        self.observed_totals = ActivityTotals {
            descendants: totals.descendants.or(self.observed_totals.descendants),
            ..*totals
        };
    }
}

// === impl ActivityTotals ===

impl ActivityTotals {
    fn of(reading: &Reading) -> Self {
        Self {
            rss_file: reading.rss_file,
            read_chars: reading.read_chars,
            own: reading.cpu_time,
            descendants: None,
        }
    }

    fn has_read(&self, before: &Self) -> bool {
        self.rss_file > before.rss_file || self.read_chars > before.read_chars
    }

    /// Processor time used since an earlier stand. What is not known of both counts for nothing.
    fn cpu_time_since(&self, before: &Self) -> Duration {
        let own = self.own.saturating_sub(before.own);
        let descendants = match (self.descendants, before.descendants) {
            (Some(now), Some(then)) => now.saturating_sub(then),
            _ => Duration::ZERO,
        };
        own + descendants
    }
}
