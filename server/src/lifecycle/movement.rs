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
pub(super) struct Movement {
    pid: u32,
    /// When it was last seen to move, and where it stood then.
    moved: Instant,
    stood: Stand,
    /// The last look.
    looked: Instant,
    looked_at: Stand,
    /// What it worked since it last got ahead.
    worked: Duration,
}

/// Where a worker stands.
#[derive(Clone, Copy, Debug, Default)]
struct Stand {
    rss_file: u64,
    read_chars: u64,
    own: Duration,
    /// Of its descendants, once anybody has looked.
    descendants: Option<Duration>,
}

/// What else a look at a worker has shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
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

// === impl Movement ===

impl Movement {
    /// A worker that has just moved.
    pub(super) fn new(pid: u32, reading: &Reading) -> Self {
        let now = Instant::now();
        let stood = Stand::of(reading);
        Self {
            pid,
            moved: now,
            stood,
            looked: now,
            looked_at: stood,
            worked: Duration::ZERO,
        }
    }

    /// It has no reason to move at present.
    pub(super) fn excuse(&mut self) {
        self.moved = Instant::now();
    }

    /// It got ahead: what it works from now on is for the next step.
    pub(super) fn got_ahead(&mut self, reading: &Reading) {
        *self = Self::new(self.pid, reading);
    }

    /// Takes note of a look at it.
    pub(super) fn look(&mut self, reading: &Reading, look: Look) {
        let least = LEAST.max(look.limit / SHARE);
        let mut stand = Stand::of(reading);
        let enough = stand.own >= self.stood.own + least;
        // They are looked for only where the answer counts.
        if !enough && !look.device {
            stand.descendants = Some(worker::descendants_cpu_time(self.pid));
        }
        let now = Instant::now();
        self.count(&stand, now, look.device);
        let read = look.reads && stand.has_read(&self.stood);
        if enough || read || look.device || stand.gained(&self.stood) >= least {
            self.moved = now;
            self.stood = stand;
        } else if self.stood.descendants.is_none() {
            self.stood.descendants = stand.descendants;
        }
    }

    /// When it was last seen to move.
    pub(super) fn moved(&self) -> Instant {
        self.moved
    }

    /// How long it has stood still since the moment `since`.
    pub(super) fn still(&self, since: Instant) -> Duration {
        self.moved.max(since).elapsed()
    }

    /// How long it worked since it last got ahead.
    pub(super) fn worked(&self) -> Duration {
        self.worked
    }

    /// Counts the time since the last look as worked, as far as it was.
    fn count(&mut self, stand: &Stand, now: Instant, device: bool) {
        let passed = now - self.looked;
        let worked = if device {
            passed
        } else {
            passed.min(stand.gained(&self.looked_at))
        };
        self.worked += worked;
        self.looked = now;
        self.looked_at = Stand {
            descendants: stand.descendants.or(self.looked_at.descendants),
            ..*stand
        };
    }
}

// === impl Stand ===

impl Stand {
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
    fn gained(&self, before: &Self) -> Duration {
        let own = self.own.saturating_sub(before.own);
        let descendants = match (self.descendants, before.descendants) {
            (Some(now), Some(then)) => now.saturating_sub(then),
            _ => Duration::ZERO,
        };
        own + descendants
    }
}
