//! Whether something moves: one measure for loads, for engines, and for workers as a whole.
//!
//! What moves is slow at most: it moves while it uses processor time, or its device works; a load also while bytes are
//! read. How long it works without an end in sight is counted in the time that it really worked: what gets a
//! hundredth of a processor has a hundred times as long. What passes between two looks counts as far as those should
//! be apart: a server that was stopped together with its workers has seen nothing of them meanwhile.

use std::time::Duration;

use tokio::time::Instant;

use crate::worker::ProcessReading;

/// What is seen of the work of one thing.
#[derive(Debug)]
pub(super) struct ActivityTracker {
    /// What it had done when it was last seen to move.
    totals_then: ActivityTotals,
    /// For how long it has not moved since.
    inactive_for: Duration,
    /// The last look.
    observed: Instant,
    observed_totals: ActivityTotals,
    /// What it worked since it last got ahead.
    worked: Duration,
}

/// What something has done since it began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ActivityTotals {
    rss_file: u64,
    read_chars: u64,
    cpu_time: Duration,
    /// Processor time of its descendants; `None` while it was not read.
    descendants: Option<Duration>,
}

/// What a look has shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct ActivityReading {
    pub(super) totals: ActivityTotals,
    /// Processor time of the processes that work for it, if there may be some.
    pub(super) descendants: Option<Duration>,
    /// Whether reading bytes counts as moving, as in a load.
    pub(super) reads: bool,
    /// Whether its device works.
    pub(super) device: bool,
    /// How long it may stand still.
    pub(super) limit: Duration,
}

/// What works for its limit divided by this moves. One that only waits works for less, one that gets a hundredth of a
/// processor for more.
const SHARE: u32 = 200;

/// The least that counts as work: the kernel counts processor time in hundredths of a second.
const LEAST: Duration = Duration::from_millis(20);

/// Between two looks at most the limit divided by this counts as standing still: if more passed, nobody was there to look.
const LONGEST_GAP: u32 = 3;

impl ActivityTracker {
    /// Of something that has just moved.
    pub(super) fn new(totals: ActivityTotals) -> Self {
        Self {
            totals_then: totals,
            inactive_for: Duration::ZERO,
            observed: Instant::now(),
            observed_totals: totals,
            worked: Duration::ZERO,
        }
    }

    /// It has no reason to move at present.
    pub(super) fn reset_inactivity(&mut self) {
        self.inactive_for = Duration::ZERO;
    }

    /// It got ahead: what it works from now on is for the next step.
    pub(super) fn progressed(&mut self, totals: ActivityTotals) {
        *self = Self::new(totals);
    }

    /// Takes note of a look at it.
    pub(super) fn observe(&mut self, reading: ActivityReading) {
        self.observe_at(Instant::now(), reading);
    }

    fn observe_at(&mut self, now: Instant, reading: ActivityReading) {
        let least = LEAST.max(reading.limit / SHARE);
        let mut totals = reading.totals;
        let enough = totals.cpu_time >= self.totals_then.cpu_time + least;
        // They count only where it does not move by itself.
        if !enough && !reading.device {
            totals.descendants = reading.descendants;
        }
        let gap = self.count(now, &totals, reading.device);
        let read = reading.reads && totals.has_read(&self.totals_then);
        if enough || read || reading.device || totals.cpu_time_since(&self.totals_then) >= least {
            self.inactive_for = Duration::ZERO;
            self.totals_then = totals;
        } else {
            self.inactive_for += gap.min(reading.limit / LONGEST_GAP);
            let before = &mut self.totals_then.descendants;
            *before = before.or(totals.descendants);
        }
    }

    /// How long it has stood still.
    pub(super) fn inactive_for(&self) -> Duration {
        self.inactive_for
    }

    /// How long it worked since it last got ahead.
    pub(super) fn worked(&self) -> Duration {
        self.worked
    }

    /// Counts the time since the last look as worked, as far as it was, and gives that time.
    fn count(&mut self, now: Instant, totals: &ActivityTotals, device: bool) -> Duration {
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
        passed
    }
}

impl ActivityTotals {
    /// Of a process.
    pub(super) fn of(reading: &ProcessReading) -> Self {
        Self {
            rss_file: reading.rss_file,
            read_chars: reading.read_chars,
            cpu_time: reading.cpu_time,
            descendants: None,
        }
    }

    /// Of an engine that has used so much processor time.
    pub(super) fn of_engine(cpu_time: Duration) -> Self {
        Self {
            cpu_time,
            ..Self::default()
        }
    }

    fn has_read(&self, before: &Self) -> bool {
        self.rss_file > before.rss_file || self.read_chars > before.read_chars
    }

    /// Processor time used since an earlier look. What is not known of both counts for nothing.
    fn cpu_time_since(&self, before: &Self) -> Duration {
        let own = self.cpu_time.saturating_sub(before.cpu_time);
        let descendants = match (self.descendants, before.descendants) {
            (Some(now), Some(then)) => now.saturating_sub(then),
            _ => Duration::ZERO,
        };
        own + descendants
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// A look at an engine that has worked for `cpu_time`.
    fn reading(cpu_time: Duration) -> ActivityReading {
        ActivityReading {
            totals: ActivityTotals::of_engine(cpu_time),
            descendants: None,
            reads: false,
            device: false,
            limit: LIMIT,
        }
    }

    #[bounded::test]
    fn a_little_work_counts_as_activity() {
        let mut tracker = ActivityTracker::new(ActivityTotals::default());
        let began = tracker.observed;
        let little = LIMIT / SHARE;
        let less = little - Duration::from_millis(1);
        tracker.observe_at(began + LIMIT / 10, reading(less));
        assert_eq!(tracker.inactive_for(), LIMIT / 10);
        tracker.observe_at(began + LIMIT / 5, reading(little));
        assert_eq!(tracker.inactive_for(), Duration::ZERO);
        assert_eq!(tracker.worked(), little);
    }

    #[bounded::test]
    fn time_between_rare_observations_counts_for_little() {
        let mut tracker = ActivityTracker::new(ActivityTotals::default());
        let began = tracker.observed;
        tracker.observe_at(began + LIMIT * 100, reading(Duration::ZERO));
        assert_eq!(tracker.inactive_for(), LIMIT / LONGEST_GAP);
    }
}
