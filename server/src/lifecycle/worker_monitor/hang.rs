//! Workers that are at fault although they live: nothing is heard of them, or their engine gets nowhere.

use std::time::Duration;

use super::{PendingWork, WorkerMonitor};
use crate::{
    lifecycle::LifecycleLimits,
    model::{Failure, Pace, Reason},
    worker::EngineStats,
};

/// How much longer than its pace says an engine may work at a prompt.
const SPIN_FACTOR: f64 = 10.0;

/// The same for a prompt that needs longer at that pace than `max_spin_timeout`, which then does not hold.
const LEAST_SPIN_FACTOR: f64 = 2.0;

/// How long an engine may work.
#[derive(Clone, Copy, Debug)]
struct SpinLimits {
    /// Without prompts.
    base: Duration,
    /// For each token of prompts on top, while its pace is not known.
    per_prompt_token: Duration,
    /// Altogether, unless its pace says that it needs longer.
    most: Duration,
}

impl WorkerMonitor {
    /// The failure of a worker that nothing is heard of any more, or of an engine that has work and no longer moves, or
    /// works and gets nowhere although it had many times as long as its pace allows for; `known` is what earlier
    /// workers showed of that.
    pub(in crate::lifecycle) fn hung(
        &self,
        limits: &LifecycleLimits,
        known: Option<Pace>,
    ) -> Option<Failure> {
        let engine = self.heartbeat.engine();
        let message = self
            .silence(limits)
            .or_else(|| self.standstill(&engine, limits))
            .or_else(|| self.spin(&engine, limits, known))?;
        Some(Failure::new(Reason::WorkerHung, message))
    }

    fn silence(&self, limits: &LifecycleLimits) -> Option<String> {
        let inactive_for = self.process.inactive_for();
        if inactive_for > limits.hang_timeout {
            return Some(format!(
                "the worker has neither been heard of nor used the processor for {:.1} s; it was killed",
                inactive_for.as_secs_f64()
            ));
        }
        let worked = self.process.worked();
        (worked > limits.spin_timeout.max(limits.hang_timeout)).then(|| {
            format!(
                "the worker worked for {:.1} s and was not seen of meanwhile; it was killed. If it is only slow, raise \
                 --spin-timeout",
                worked.as_secs_f64()
            )
        })
    }

    fn standstill(&self, engine: &EngineStats, limits: &LifecycleLimits) -> Option<String> {
        let inactive_for = self.engine.inactive_for();
        (self.pending != PendingWork::None && inactive_for > limits.hang_timeout).then(|| {
            format!(
                "the engine neither made a step nor used the processor for {:.1} s, with {} requests; its worker was \
                 killed",
                inactive_for.as_secs_f64(),
                engine.in_flight
            )
        })
    }

    fn spin(
        &self,
        engine: &EngineStats,
        limits: &LifecycleLimits,
        known: Option<Pace>,
    ) -> Option<String> {
        let limit = SpinLimits::of(limits).for_prompts(engine.prefill_tokens, engine.pace, known);
        let worked = self.engine.worked();
        (self.pending != PendingWork::None && worked > limit).then(|| {
            format!(
                "the engine worked for {:.1} s without making a step, with {} requests and {} tokens of prompts to read; \
                 its worker was killed. If it is only slow, raise --spin-timeout or --max-spin-timeout",
                worked.as_secs_f64(),
                engine.in_flight,
                engine.prefill_tokens
            )
        })
    }
}

impl SpinLimits {
    fn of(limits: &LifecycleLimits) -> Self {
        Self {
            base: limits.spin_timeout,
            per_prompt_token: limits.spin_timeout_per_prompt_token,
            most: limits.max_spin_timeout,
        }
    }

    /// How long an engine may work at prompts of so many tokens until it has made a step. Its `own` pace decides, once there is
    /// one; what is `known` of earlier workers makes it longer at most.
    fn for_prompts(self, tokens: u64, own: Option<Pace>, known: Option<Pace>) -> Duration {
        let tokens = tokens as f64;
        let needed = |pace: Option<Pace>| Some(tokens / pace?.prompt_tokens_per_second?);
        let (needed, allowed) = match (needed(own), needed(known)) {
            (Some(needed), _) => (needed, SPIN_FACTOR * needed),
            (None, known) => {
                let needed = known.unwrap_or_default();
                let unknown = self.per_prompt_token.as_secs_f64() * tokens;
                (needed, unknown.max(SPIN_FACTOR * needed))
            }
        };
        let seconds = |time| Duration::try_from_secs_f64(time).unwrap_or(Duration::MAX);
        let most = self.most.max(self.base);
        let limit = self.base.saturating_add(seconds(allowed));
        limit.min(most.max(seconds(LEAST_SPIN_FACTOR * needed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);

    const LIMITS: SpinLimits = SpinLimits {
        base: Duration::from_secs(600),
        per_prompt_token: Duration::from_secs(5),
        most: HOUR,
    };

    fn pace(rate: f64) -> Option<Pace> {
        Some(Pace {
            prompt_tokens_per_second: Some(rate),
            generated_tokens_per_second: None,
        })
    }

    #[bounded::test]
    fn an_engine_whose_pace_is_not_known_has_as_long_as_any() {
        assert_eq!(LIMITS.for_prompts(0, None, None), 600 * SECOND);
        assert_eq!(LIMITS.for_prompts(100, None, None), 1100 * SECOND);
        assert_eq!(LIMITS.for_prompts(100_000, None, None), HOUR);
        let longer = SpinLimits {
            base: 2 * HOUR,
            ..LIMITS
        };
        assert_eq!(longer.for_prompts(100_000, None, None), 2 * HOUR);
    }

    #[bounded::test]
    fn what_earlier_workers_showed_makes_no_limit_shorter() {
        assert_eq!(LIMITS.for_prompts(100, None, pace(1000.0)), 1100 * SECOND);
        assert_eq!(LIMITS.for_prompts(100, None, pace(1.0)), 1600 * SECOND);
        let own = LIMITS.for_prompts(100, pace(1000.0), pace(0.1));
        assert_eq!(own, 601 * SECOND);
    }

    #[bounded::test]
    fn what_needs_longer_than_any_has_twice_as_long() {
        let slow = LIMITS.for_prompts(100_000, pace(10.0), None);
        assert_eq!(slow, 20_000 * SECOND);
        let never = LIMITS.for_prompts(u64::MAX, pace(1e-300), None);
        assert_eq!(never, Duration::MAX);
    }
}
