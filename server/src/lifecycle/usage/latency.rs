//! Latencies: counted by size in bins, and their quantiles.
//!
//! Invariant: a bin is at most 1/32 wider than where it begins, so a quantile is at most 3.2 % above an
//! observation, and never below it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Quantiles of a latency, by the nearest-rank method, in whole microseconds (at most 71 minutes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    p50: u32,
    p95: u32,
    p99: u32,
    /// Observations.
    pub count: u32,
}

/// Counts observations by size. Takes 4 bytes for each size that was seen, at most 896 of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    bins: Vec<Bin>,
}

/// One size, or one of several bins of a size that was seen more often than a bin can count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bin {
    size: u16,
    count: u16,
}

/// Bins of each power of two.
const STEPS: u32 = 32;

impl Latency {
    /// Half of the observations are at most this.
    pub fn p50(&self) -> Duration {
        Duration::from_micros(self.p50.into())
    }

    /// 95 of 100 observations are at most this.
    pub fn p95(&self) -> Duration {
        Duration::from_micros(self.p95.into())
    }

    /// 99 of 100 observations are at most this.
    pub fn p99(&self) -> Duration {
        Duration::from_micros(self.p99.into())
    }

    /// Quantiles of what all these have counted. `None` when that is nothing.
    pub(super) fn of<'a>(histograms: impl IntoIterator<Item = &'a Histogram>) -> Option<Self> {
        let mut bins: Vec<_> = histograms
            .into_iter()
            .flat_map(|histogram| &histogram.bins)
            .copied()
            .collect();
        bins.sort_unstable();
        Self::of_sorted(bins.iter().map(|bin| (largest(bin.size), bin.count.into())))
    }

    /// Quantiles of observations in microseconds with their counts, smallest first.
    pub(super) fn of_sorted(counted: impl Iterator<Item = (u32, u64)> + Clone) -> Option<Self> {
        let count: u64 = counted.clone().map(|(_, count)| count).sum();
        let rank = |percent: u64| {
            let rank = (count * percent).div_ceil(100);
            let mut seen = 0;
            let mut counted = counted.clone();
            let found = counted.find(|(_, count)| {
                seen += count;
                seen >= rank
            });
            found.map(|(micros, _)| micros)
        };
        (count > 0).then_some(())?;
        Some(Self {
            p50: rank(50)?,
            p95: rank(95)?,
            p99: rank(99)?,
            count: u32::try_from(count).unwrap_or(u32::MAX),
        })
    }
}

impl Histogram {
    pub(super) fn add(&mut self, latency: Duration) {
        let size = size(micros(latency));
        let at = self.bins.partition_point(|bin| bin.size < size);
        match self.bins.get_mut(at) {
            Some(bin) if bin.size == size && bin.count < u16::MAX => bin.count += 1,
            _ => self.bins.insert(at, Bin { size, count: 1 }),
        }
    }
}

/// Whole microseconds, at most what fits.
pub(super) fn micros(latency: Duration) -> u32 {
    u32::try_from(latency.as_micros()).unwrap_or(u32::MAX)
}

/// The bin of so many microseconds: one for each below 32, then 32 for each power of two.
fn size(micros: u32) -> u16 {
    let bin = match micros.checked_ilog2() {
        Some(power) if micros >= STEPS => {
            let shift = power - STEPS.ilog2();
            (shift + 1) * STEPS + (micros >> shift) % STEPS
        }
        _ => micros,
    };
    // At most 895.
    bin as u16
}

/// The most microseconds that belong into the bin.
fn largest(size: u16) -> u32 {
    let size = u32::from(size);
    if size < STEPS {
        return size;
    }
    let shift = size / STEPS - 1;
    let smallest = (STEPS + size % STEPS) << shift;
    smallest + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn histogram(micros: impl IntoIterator<Item = u32>) -> Histogram {
        let mut histogram = Histogram::default();
        for micros in micros {
            histogram.add(Duration::from_micros(micros.into()));
        }
        histogram
    }

    #[bounded::test]
    fn no_observation_has_no_quantiles() {
        assert_eq!(Latency::of([]), None);
        assert_eq!(Latency::of([&Histogram::default()]), None);
    }

    #[bounded::test]
    fn bins_follow_one_another_without_gap_to_the_longest_latency() {
        for bin in 0..895 {
            assert_eq!(size(largest(bin)), bin);
            assert_eq!(size(largest(bin) + 1), bin + 1);
        }
        assert_eq!((size(u32::MAX), largest(895)), (895, u32::MAX));
        assert_eq!(micros(Duration::MAX), u32::MAX);
    }

    #[bounded::test]
    fn a_size_is_counted_beyond_what_one_bin_holds() {
        let many = histogram(std::iter::repeat_n(7, 200_000).chain([9]));
        assert_eq!(many.bins.len(), 5);
        let latency = Latency::of([&many]).expect("observations");
        assert_eq!((latency.count, latency.p99), (200_001, 7));
    }

    proptest! {
        #[bounded::test]
        fn quantiles_are_at_most_a_bin_above_those_of_a_sorted_list(
            parts in prop::collection::vec(prop::collection::vec(0u32.., 0..40), 1..5)
        ) {
            let histograms: Vec<_> = parts.iter().map(|part| histogram(part.iter().copied())).collect();
            let mut all: Vec<_> = parts.concat();
            all.sort_unstable();
            let reported = Latency::of(&histograms);
            prop_assert_eq!(reported.map_or(0, |latency| latency.count as usize), all.len());
            if let Some(reported) = reported {
                for (percent, reported) in [(50, reported.p50), (95, reported.p95), (99, reported.p99)] {
                    let exact = all[(all.len() * percent).div_ceil(100) - 1];
                    prop_assert!(reported >= exact);
                    prop_assert!(u64::from(reported - exact) <= u64::from(exact) / 32);
                }
            }
        }
    }
}
