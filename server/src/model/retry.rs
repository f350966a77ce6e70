//! Whether and when a failed model is tried again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Failure, Reason};

/// When a model is restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartMode {
    /// Never.
    Never,
    /// After a failure that may pass by itself.
    #[default]
    OnFailure,
    /// After any failure.
    Always,
}

/// What happens when a worker dies or a load fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RestartPolicy {
    /// When to restart.
    pub mode: RestartMode,
    /// Attempts in a row before the model is FAILED, the first included.
    pub max_attempts: u32,
    /// Wait before the second attempt; doubles with each further one.
    #[serde(with = "humantime_serde")]
    pub initial_backoff: Duration,
    /// Longest wait.
    #[serde(with = "humantime_serde")]
    pub max_backoff: Duration,
    /// Time READY after which the count of attempts starts anew.
    #[serde(with = "humantime_serde")]
    pub stable_period: Duration,
}

impl RestartPolicy {
    /// Whether a model that failed in its `attempt`th attempt gets another one.
    ///
    /// A time-out never does: it used up what the caller gave to all attempts together. Neither does a fault of the
    /// server, which somebody should look at.
    pub fn retries(&self, failure: &Failure, attempt: u32) -> bool {
        // A disk that took the first attempt may have room again.
        let filled_up = failure.reason == Reason::StorageFull && attempt > 1;
        self.goes_on(failure, filled_up || failure.reason.is_transient(), attempt)
    }

    /// As [`Self::retries`], for a model that had served: it fits, so that memory that one request was short of is no reason
    /// to give it up.
    pub fn restarts(&self, failure: &Failure, attempt: u32) -> bool {
        let starved = failure.reason == Reason::InsufficientMemory;
        self.goes_on(failure, starved || failure.reason.is_transient(), attempt)
    }

    /// As [`Self::retries`], of a failure that `may_pass` or not.
    fn goes_on(&self, failure: &Failure, may_pass: bool, attempt: u32) -> bool {
        let wanted = match self.mode {
            RestartMode::Never => false,
            RestartMode::OnFailure => may_pass,
            RestartMode::Always => {
                !matches!(failure.reason, Reason::LoadTimeout | Reason::Internal)
            }
        };
        wanted && attempt < self.max_attempts
    }

    /// How long to wait after the failed `attempt`, from 1. `jitter`, from 0 to 1, spreads the wait
    /// over 75 % to 125 % of its nominal length, if that is no longer than the longest, so that models that died together do
    /// not come back together.
    pub fn backoff(&self, attempt: u32, jitter: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let nominal = self
            .initial_backoff
            .saturating_mul(1 << doublings)
            .min(self.max_backoff);
        let spread = nominal.mul_f64(0.75 + 0.5 * jitter.clamp(0.0, 1.0));
        spread.min(self.max_backoff)
    }
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            mode: RestartMode::default(),
            max_attempts: 5,
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(60),
            stable_period: Duration::from_secs(600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(mode: RestartMode) -> RestartPolicy {
        RestartPolicy {
            mode,
            max_attempts: 3,
            ..RestartPolicy::default()
        }
    }

    #[bounded::test]
    fn only_what_may_pass_is_tried_again_on_failure() {
        let policy = policy(RestartMode::OnFailure);
        assert!(policy.retries(&Failure::new(Reason::WorkerDied, ""), 1));
        assert!(!policy.retries(&Failure::new(Reason::ModelUnusable, ""), 1));
        assert!(!policy.retries(&Failure::new(Reason::LoadTimeout, ""), 1));
        let full = Failure::new(Reason::StorageFull, "");
        assert!(!policy.retries(&full, 1));
        assert!(policy.retries(&full, 2));
    }

    #[bounded::test]
    fn memory_that_was_short_is_a_reason_to_restart_but_not_to_load_again() {
        let starved = Failure::new(Reason::InsufficientMemory, "");
        let on_failure = policy(RestartMode::OnFailure);
        assert!(!on_failure.retries(&starved, 1));
        assert!(on_failure.restarts(&starved, 1));
        assert!(!on_failure.restarts(&starved, 3));
        assert!(on_failure.restarts(&Failure::new(Reason::WorkerDied, ""), 1));
        assert!(!policy(RestartMode::Never).restarts(&starved, 1));
    }

    #[bounded::test]
    fn attempts_are_bounded_in_every_mode() {
        for mode in [
            RestartMode::Never,
            RestartMode::OnFailure,
            RestartMode::Always,
        ] {
            assert!(!policy(mode).retries(&Failure::new(Reason::WorkerDied, ""), 3));
        }
        assert!(policy(RestartMode::Always).retries(&Failure::new(Reason::ModelUnusable, ""), 2));
    }

    #[bounded::test]
    fn waits_double_up_to_the_longest() {
        let policy = RestartPolicy::default();
        let nominal = |attempt| policy.backoff(attempt, 0.5);
        assert_eq!(nominal(1), Duration::from_secs(1));
        assert_eq!(nominal(2), Duration::from_secs(2));
        assert_eq!(nominal(7), Duration::from_secs(60));
        assert_eq!(nominal(u32::MAX), Duration::from_secs(60));
        assert_eq!(policy.backoff(1, 0.0), Duration::from_millis(750));
        assert_eq!(policy.backoff(1, 1.0), Duration::from_millis(1250));
        assert_eq!(policy.backoff(7, 0.0), Duration::from_secs(45));
        assert_eq!(policy.backoff(7, 1.0), Duration::from_secs(60));
    }
}
