//! How far a load is, from what was observed.

use std::time::Duration;

use super::state::LoadPhase;

/// How far a load is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// What is being done.
    pub phase: LoadPhase,
    /// Bytes of the model's files that were seen to be read in this phase.
    pub bytes_done: u64,
    /// Bytes of the model's files; 0 when not known yet.
    pub bytes_total: u64,
    /// Share of the load that is done, from 0 to 1; 1 only when READY.
    pub fraction: f64,
    /// Time left until READY, where it is known.
    pub eta: Option<Duration>,
}

/// Turns observed bytes into progress that never goes back within a load.
///
/// Reading the weights counts for 95 % of a load; the rest is building the engine around them and the
/// first token. Where they have to be downloaded first, that counts for 80 %, and reading for what is left
/// of the 95. The estimate takes what is left of the load to go on at the speed since the phase began; it is
/// given only from the first 10 % of the phase that were seen up to 95 % of the bytes, where that speed says
/// something.
#[derive(Clone, Debug)]
pub struct ProgressMeter {
    current: Progress,
    /// Something had to be downloaded.
    downloads: bool,
    /// Share of the load that was done when the phase was first seen.
    first: Option<f64>,
}

/// Share of a load that is done when the files are downloaded, if they had to be.
const DOWNLOADING_SHARE: f64 = 0.8;

/// Share of a load that is done when the weights are read.
const LOADING_SHARE: f64 = 0.95;

/// Fraction that everything but READY stays below.
const ALMOST: f64 = 0.99;

impl ProgressMeter {
    /// A load that waits for its slot.
    pub fn new() -> Self {
        let current = Progress {
            phase: LoadPhase::Pending,
            bytes_done: 0,
            bytes_total: 0,
            fraction: 0.0,
            eta: None,
        };
        Self {
            current,
            downloads: false,
            first: None,
        }
    }

    /// The progress as it stands.
    pub fn current(&self) -> Progress {
        self.current
    }

    /// Enters `phase`, in which `bytes_total` bytes are to be read.
    pub fn enter(&mut self, phase: LoadPhase, bytes_total: u64) {
        let floor = if phase == LoadPhase::Warming {
            LOADING_SHARE
        } else {
            0.0
        };
        let bytes_done = if phase == LoadPhase::Warming {
            bytes_total
        } else {
            0
        };
        self.first = None;
        self.current = Progress {
            phase,
            bytes_done,
            bytes_total,
            fraction: self.current.fraction.max(floor).min(ALMOST),
            eta: None,
        };
    }

    /// Takes note of `bytes` that were seen `elapsed` after the phase began, and gives the new progress
    /// if it differs from the last.
    pub fn observe(&mut self, bytes: u64, elapsed: Duration) -> Option<Progress> {
        let before = self.current;
        let total = before.bytes_total;
        let done = bytes.min(total).max(before.bytes_done);
        let share = if total == 0 {
            0.0
        } else {
            done as f64 / total as f64
        };
        let downloading = before.phase == LoadPhase::Downloading;
        self.downloads |= downloading && done < total;
        let (from, to) = self.phase_range();
        let done_of_load = from + share * (to - from);
        // What was downloaded before says nothing about the speed.
        let first = if downloading { done_of_load } else { from };
        let seen = done_of_load - *self.first.get_or_insert(first);
        let left = || elapsed.mul_f64((1.0 - done_of_load) / seen);
        self.current.bytes_done = done;
        self.current.fraction = before.fraction.max(done_of_load).min(ALMOST);
        let significant = seen > 0.0 && seen >= 0.1 * (to - from) && share < 0.95;
        self.current.eta = significant.then(left);
        let moved = done != before.bytes_done || self.current.eta.is_some() != before.eta.is_some();
        moved.then_some(self.current)
    }

    /// The share of the load at the beginning and at the end of the phase.
    fn phase_range(&self) -> (f64, f64) {
        let downloaded = if self.downloads {
            DOWNLOADING_SHARE
        } else {
            0.0
        };
        if self.current.phase == LoadPhase::Downloading {
            (0.0, downloaded)
        } else {
            (downloaded, LOADING_SHARE)
        }
    }
}

impl Default for ProgressMeter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[bounded::test]
    fn no_estimate_before_anything_was_observed() {
        let mut meter = ProgressMeter::new();
        meter.enter(LoadPhase::Loading, 1000);
        assert_eq!(
            meter
                .observe(50, Duration::from_secs(1))
                .and_then(|p| p.eta),
            None
        );
        let eta = meter
            .observe(500, Duration::from_secs(19))
            .and_then(|p| p.eta);
        assert_eq!(eta, Some(Duration::from_secs(21)));
    }

    #[bounded::test]
    fn an_unchanged_reading_is_not_reported() {
        let mut meter = ProgressMeter::new();
        meter.enter(LoadPhase::Loading, 1000);
        assert!(meter.observe(100, Duration::from_secs(1)).is_some());
        assert!(meter.observe(100, Duration::from_secs(2)).is_none());
        assert!(meter.observe(90, Duration::from_secs(3)).is_none());
    }

    #[bounded::test]
    fn a_download_counts_for_what_had_to_be_downloaded() {
        let second = Duration::from_secs(1);
        let mut meter = ProgressMeter::new();
        meter.enter(LoadPhase::Downloading, 1000);
        meter.observe(500, Duration::ZERO);
        assert_eq!((meter.current().fraction, meter.current().eta), (0.4, None));
        // 250 bytes are 0.2 of the load: the 0.4 that are left take twice as long.
        let eta = meter.observe(750, second).and_then(|p| p.eta);
        assert_eq!(eta.map(|eta| eta.as_millis()), Some(2000));
        meter.observe(1000, second * 2);
        meter.enter(LoadPhase::Loading, 900);
        assert_eq!(meter.current().fraction, 0.8);
        meter.observe(450, second);
        assert!((meter.current().fraction - 0.875).abs() < 1e-9);

        let mut meter = ProgressMeter::new();
        meter.enter(LoadPhase::Downloading, 1000);
        meter.observe(1000, second);
        assert_eq!(meter.current().fraction, 0.0);
        meter.enter(LoadPhase::Loading, 1000);
        meter.observe(500, second);
        assert_eq!(meter.current().fraction, 0.475);
    }

    proptest! {
        #[bounded::test]
        fn progress_never_goes_back_and_never_claims_the_end(
            total in 0u64..10_000,
            readings in prop::collection::vec((0u64..20_000, 0u64..100), 0..50),
            retry_at in 0usize..50,
        ) {
            let mut meter = ProgressMeter::new();
            meter.enter(LoadPhase::Loading, total);
            let mut last = 0.0;
            for (step, (bytes, secs)) in readings.into_iter().enumerate() {
                if step == retry_at {
                    meter.enter(LoadPhase::Pending, 0);
                    meter.enter(LoadPhase::Loading, total);
                }
                meter.observe(bytes, Duration::from_secs(secs));
                let now = meter.current();
                prop_assert!(now.fraction >= last && now.fraction < 1.0);
                prop_assert!(now.bytes_done <= now.bytes_total);
                last = now.fraction;
            }
            meter.enter(LoadPhase::Warming, total);
            prop_assert!(meter.current().fraction >= last && meter.current().fraction < 1.0);
        }
    }
}
