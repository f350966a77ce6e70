//! A model's day.
//!
//! Invariant: at most 1,440 samples, oldest first, none of them older than a day when the last was taken:
//! 150 kB for a model that was loaded all day, nothing for one that was not.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use super::sample::HistorySample;

/// Samples of a day.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<HistorySample>);

/// Samples that are kept.
const SAMPLES: usize = 1440;

/// Samples for which there is room at first, and then again.
const SPARE: usize = 60;

/// How long they are kept.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

impl History {
    pub(super) fn push(&mut self, sample: HistorySample) {
        if self.0.len() == SAMPLES {
            self.0.pop_front();
        }
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(SPARE);
        }
        self.0.push_back(sample);
    }

    /// Puts what an earlier run of the server has seen before what is there.
    pub(super) fn restore(&mut self, earlier: Vec<HistorySample>, now: SystemTime) {
        let later = std::mem::take(&mut self.0);
        earlier.into_iter().chain(later).for_each(|s| self.push(s));
        self.expire(now);
    }

    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now: SystemTime) {
        let old = |sample: &mut HistorySample| {
            let age = now.duration_since(sample.start());
            age.is_ok_and(|age| age > MAX_AGE)
        };
        while self.0.pop_front_if(old).is_some() {}
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
    }

    pub(super) fn all(&self) -> Vec<HistorySample> {
        self.0.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(n: u64) -> HistorySample {
        HistorySample {
            start_millis: n * 60_000,
            millis: 60_000,
            ..HistorySample::default()
        }
    }

    fn at(minute: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(60 * minute)
    }

    #[bounded::test]
    fn a_day_is_kept_and_no_more() {
        let mut history = History::default();
        (0..3000).for_each(|n| history.push(minute(n)));
        let all = history.all();
        assert_eq!(
            (all.len(), all[0], all[1439]),
            (1440, minute(1560), minute(2999))
        );
        assert_eq!(history.0.capacity(), 1440, "150 kB");
        history.expire(at(3000));
        assert_eq!(history.all().len(), 1440);
        history.expire(at(3100));
        assert_eq!(history.all()[0], minute(1660));
        history.expire(at(9000));
        assert_eq!((history.all().len(), history.0.capacity()), (0, 0));
    }

    #[bounded::test]
    fn restored_minutes_come_before_those_of_this_run() {
        let mut history = History::default();
        history.push(minute(2000));
        history.restore(vec![minute(1), minute(1998), minute(1999)], at(2001));
        assert_eq!(history.all(), [minute(1998), minute(1999), minute(2000)]);
    }
}
