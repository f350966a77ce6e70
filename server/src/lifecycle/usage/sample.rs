//! What a model did in a stretch of time, in the form that is kept.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{latency::Latency, window::Counts};
use crate::model::ModelMemory;

/// What a model did in a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistorySample {
    /// When it began, in milliseconds since 1970 by the wall clock.
    pub start_millis: u64,
    /// How long it is, in milliseconds by the monotone clock.
    pub millis: u32,
    /// Requests that ended well in it.
    pub succeeded: u32,
    /// Requests that ended with an error.
    pub failed: u32,
    /// Requests that their caller gave up.
    pub cancelled: u32,
    /// Tokens of the prompts of those that ended well.
    pub prompt_tokens: u64,
    /// Tokens of answers that came in it.
    pub completion_tokens: u64,
    /// From admission to the first token, where that came in it.
    pub first_token: Option<Latency>,
    /// Between tokens, averaged over each request that ended well.
    pub per_token: Option<Latency>,
    /// What the model's worker held at the end. `None` when there was none.
    pub memory: Option<ModelMemory>,
}

/// Shortest time over which a rate is given: over less, one answer would look like a storm.
const SHORTEST_RATE: Duration = Duration::from_secs(1);

impl HistorySample {
    pub(super) fn of(counts: Counts) -> Self {
        Self {
            succeeded: counts.succeeded,
            failed: counts.failed,
            cancelled: counts.cancelled,
            prompt_tokens: counts.prompt_tokens,
            ..Self::default()
        }
    }

    /// Sets when and for how long, for a stretch that ends at `end`.
    pub(super) fn with_end(mut self, end: SystemTime, duration: Duration) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let end = end.duration_since(SystemTime::UNIX_EPOCH);
        self.start_millis = millis(end.unwrap_or_default().saturating_sub(duration));
        self.millis = u32::try_from(millis(duration)).unwrap_or(u32::MAX);
        self
    }

    /// When it began.
    pub fn start(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.start_millis)
    }

    /// How long it is.
    pub fn duration(&self) -> Duration {
        Duration::from_millis(self.millis.into())
    }

    /// Requests that ended in it.
    pub fn requests(&self) -> u64 {
        u64::from(self.succeeded) + u64::from(self.failed) + u64::from(self.cancelled)
    }

    /// Tokens of answers a second, over at least one second.
    pub fn tokens_per_second(&self) -> f64 {
        self.completion_tokens as f64 / self.duration().max(SHORTEST_RATE).as_secs_f64()
    }

    /// Whether nothing was done in it.
    pub fn is_idle(&self) -> bool {
        self.requests() == 0 && self.completion_tokens == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn a_sample_takes_little_memory() {
        assert!(
            size_of::<HistorySample>() <= 104,
            "{}",
            size_of::<HistorySample>()
        );
    }

    #[bounded::test]
    fn a_rate_covers_at_least_a_second() {
        let of = |millis| HistorySample {
            completion_tokens: 30,
            millis,
            ..HistorySample::default()
        };
        assert_eq!(of(10).tokens_per_second(), 30.0);
        assert_eq!(of(60_000).tokens_per_second(), 0.5);
    }

    #[bounded::test]
    fn a_clock_before_1970_does_no_harm() {
        let end = SystemTime::UNIX_EPOCH - Duration::from_secs(9);
        let sample = HistorySample::default().with_end(end, Duration::from_secs(1));
        assert_eq!(sample.start(), SystemTime::UNIX_EPOCH);
    }
}
