//! Latencies of the last requests.

use std::{collections::VecDeque, time::Duration};

use super::latency::{Latency, micros};

/// The last observations, 1,024 at most: 4 bytes each, taken when they come.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<u32>);

/// Observations that are remembered.
const REMEMBERED: usize = 1024;

impl Recent {
    pub(super) fn add(&mut self, latency: Duration) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(micros(latency));
    }

    /// Quantiles, each of them an observation. `None` without any.
    pub(super) fn latency(&self) -> Option<Latency> {
        let mut sorted: Vec<_> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        Latency::of_sorted(sorted.iter().map(|micros| (*micros, 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(observations: impl Iterator<Item = u64>) -> Option<(u128, u128, u128, u32)> {
        let mut recent = Recent::default();
        observations.for_each(|millis| recent.add(Duration::from_millis(millis)));
        let latency = recent.latency()?;
        Some((
            latency.p50().as_millis(),
            latency.p95().as_millis(),
            latency.p99().as_millis(),
            latency.count,
        ))
    }

    #[bounded::test]
    fn each_quantile_is_one_of_the_observations() {
        assert_eq!(millis(1..=100), Some((50, 95, 99, 100)));
        assert_eq!(millis(7..=7), Some((7, 7, 7, 1)));
        assert_eq!(millis(0..0), None);
    }

    #[bounded::test]
    fn the_oldest_observations_are_forgotten() {
        let reported = millis(std::iter::repeat_n(9_000, 500).chain(1..=1024));
        assert_eq!(reported, Some((512, 973, 1014, 1024)));
    }
}
