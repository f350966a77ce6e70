//! How quickly the engine works, as its last requests show.
//!
//! What is reported is the mean. What a caller's deadline is held against is the best that was seen of late, with
//! a margin on top: an estimate from few or small prompts, or from a busy hour, refuses nobody.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use hangar_client::v1;

/// What the last requests took.
#[derive(Debug, Default)]
pub(crate) struct PaceMeter {
    prefill: VecDeque<PaceSample>,
    decode: VecDeque<PaceSample>,
}

/// So many tokens took so long.
#[derive(Debug, Clone, Copy)]
struct PaceSample {
    tokens: u64,
    took: Duration,
    at: Instant,
}

/// A prompt that cannot be read in the time that is left for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TooSlow {
    /// Tokens that can be read in a second.
    pub(crate) tokens_per_second: f64,
    /// Time that the prompt takes at that pace.
    pub(crate) estimated: Duration,
}

/// Requests that are remembered.
const REMEMBERED: usize = 32;

/// Shortest prompt that shows something: less is mostly what a step costs anyhow.
const SHORTEST: u64 = 16;

/// A prompt of so many tokens is read as quickly a token as any longer one, on any device.
const LONG: u64 = 512;

/// A prompt shows how long others take that have up to this many times its length.
const SCALE: u64 = 4;

/// Prompts that have to agree.
const ENOUGH: usize = 3;

/// How long a sample stands against a caller: this, and ten times what it took. A machine that was busy is so
/// no longer after a while.
const FRESH: Duration = Duration::from_secs(600);

/// A deadline that is missed by less than this factor may still be met.
const MARGIN: f64 = 1.5;

impl PaceMeter {
    /// A prompt of so many tokens was read.
    pub(crate) fn record_prefill(&mut self, tokens: u64, took: Duration, at: Instant) {
        if tokens >= SHORTEST {
            remember(&mut self.prefill, PaceSample { tokens, took, at });
        }
    }

    /// So many tokens came after the first.
    pub(crate) fn record_decode(&mut self, tokens: u64, took: Duration, at: Instant) {
        if tokens > 0 {
            remember(&mut self.decode, PaceSample { tokens, took, at });
        }
    }

    /// What is known; `None` while that is nothing.
    pub(crate) fn to_message(&self) -> Option<v1::Pace> {
        let pace = v1::Pace {
            prompt_tokens_per_second: mean(&self.prefill),
            generated_tokens_per_second: mean(&self.decode),
        };
        (pace != v1::Pace::default()).then_some(pace)
    }

    /// Whether prompts of `all` tokens together, the longest of them of `longest`, are known to take longer to
    /// read than what is `left`.
    pub(crate) fn too_slow(
        &self,
        all: u64,
        longest: u64,
        left: Duration,
        now: Instant,
    ) -> Option<TooSlow> {
        let significant = LONG.min(longest / SCALE);
        let fresh = || self.prefill.iter().filter(|sample| sample.is_fresh(now));
        if fresh()
            .filter(|sample| sample.tokens >= significant)
            .count()
            < ENOUGH
        {
            return None;
        }
        let best = fresh().map(PaceSample::rate).fold(0.0, f64::max);
        let estimated = Duration::try_from_secs_f64(as_f64(all) / best).ok()?;
        (estimated > left.mul_f64(MARGIN)).then_some(TooSlow {
            tokens_per_second: best,
            estimated,
        })
    }
}

impl PaceSample {
    fn rate(&self) -> f64 {
        as_f64(self.tokens) / self.took.max(Duration::from_micros(1)).as_secs_f64()
    }

    fn is_fresh(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.at);
        age < FRESH.saturating_add(self.took.saturating_mul(10))
    }
}

fn remember(samples: &mut VecDeque<PaceSample>, sample: PaceSample) {
    if samples.len() == REMEMBERED {
        samples.pop_front();
    }
    samples.push_back(sample);
}

/// Tokens a second over all samples.
fn mean(samples: &VecDeque<PaceSample>) -> Option<f64> {
    let tokens: u64 = samples.iter().map(|sample| sample.tokens).sum();
    let took: Duration = samples.iter().map(|sample| sample.took).sum();
    (tokens > 0 && !took.is_zero()).then(|| as_f64(tokens) / took.as_secs_f64())
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn as_f64(tokens: u64) -> f64 {
    tokens as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace(samples: &[(u64, Duration)], at: Instant) -> PaceMeter {
        let mut pace = PaceMeter::default();
        for (tokens, took) in samples {
            pace.record_prefill(*tokens, *took, at);
        }
        pace
    }

    #[bounded::test]
    fn the_mean_is_reported_and_the_best_decides_about_a_deadline() {
        let now = Instant::now();
        let pace = pace(&[(100, SECOND), (100, SECOND * 4), (100, SECOND)], now);
        let message = pace.to_message().expect("a pace");
        assert_eq!(message.prompt_tokens_per_second, Some(50.0));
        assert_eq!(message.generated_tokens_per_second, None);
        let slow = pace.too_slow(400, 400, SECOND, now).expect("too slow");
        assert_eq!(slow.tokens_per_second, 100.0);
        assert_eq!(slow.estimated, SECOND * 4);
        assert_eq!(pace.too_slow(400, 400, SECOND * 3, now), None);
    }

    #[bounded::test]
    fn few_short_or_old_prompts_refuse_nobody() {
        let now = Instant::now();
        let asks = |pace: &PaceMeter, tokens, now| pace.too_slow(tokens, tokens, SECOND / 100, now);
        let two = pace(&[(100, SECOND); 2], now);
        assert_eq!(asks(&two, 400, now), None);
        let three = pace(&[(100, SECOND); 3], now);
        assert!(asks(&three, 400, now).is_some());
        assert_eq!(asks(&three, 404, now), None);
        assert_eq!(asks(&three, 400, now + FRESH + SECOND * 11), None);
        let long = pace(&[(LONG, SECOND); 3], now);
        assert!(asks(&long, 100_000, now).is_some());
        let tiny = pace(&[(SHORTEST - 1, SECOND); 9], now);
        assert_eq!(tiny.to_message(), None);
    }

    #[bounded::test]
    fn a_pace_follows_the_last_requests() {
        let now = Instant::now();
        let mut pace = pace(&[(100, SECOND); 9], now);
        for _ in 0..REMEMBERED {
            pace.record_prefill(100, SECOND / 10, now);
            pace.record_decode(10, SECOND, now);
        }
        let message = pace.to_message().expect("a pace");
        assert!((message.prompt_tokens_per_second.expect("known") - 1000.0).abs() < 1e-6);
        assert_eq!(message.generated_tokens_per_second, Some(10.0));
    }
}
