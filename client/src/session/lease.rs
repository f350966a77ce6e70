//! When to keep a session alive, and when it has expired: pure, without clock or I/O.
//!
//! Invariant: there is a try in each third of the time to live, and a session is given up only when the
//! server said that it is gone or when it must have lapsed.

use std::time::{Duration, Instant};

use crate::{error::Error, v1::ErrorReason};

/// Longest pause after a failure.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// What became of a session.
#[derive(Debug)]
pub(super) enum LeaseState {
    /// It is alive, or may be.
    Alive,
    /// It has expired, for this reason.
    Expired(Error),
}

/// The time that a session has.
#[derive(Debug)]
pub(super) struct Lease {
    ttl: Duration,
    /// When it lapses at the latest, as far as is known here.
    end: Instant,
    /// Failures in a row.
    failures: u32,
}

impl Lease {
    /// The lease of a session that was asked for at `opened`.
    pub(super) fn new(ttl: Duration, opened: Instant) -> Self {
        Self {
            ttl,
            end: opened + ttl,
            failures: 0,
        }
    }

    /// How long to wait before the next try: a third of the time to live, and less after a failure, from a
    /// thirtieth on and doubled with each further one.
    pub(super) fn pause(&self) -> Duration {
        let third = self.ttl / 3;
        match self.failures {
            0 => third,
            n => (self.ttl / 30 * 2_u32.pow((n - 1).min(8))).min(third.min(MAX_RETRY_DELAY)),
        }
    }

    /// How long a try that begins at `now` may take.
    pub(super) fn time_for_a_try(&self, now: Instant) -> Duration {
        let left = self.end.saturating_duration_since(now);
        left.clamp(self.ttl / 30, self.ttl / 3)
    }

    /// A try that began at `begun` ended at `now`.
    pub(super) fn after(
        &mut self,
        result: Result<(), Error>,
        begun: Instant,
        now: Instant,
    ) -> LeaseState {
        let error = match result {
            Ok(()) => {
                self.end = begun + self.ttl;
                self.failures = 0;
                return LeaseState::Alive;
            }
            Err(error) => error,
        };
        if error.reason() == Some(ErrorReason::SessionNotFound) || now >= self.end {
            return LeaseState::Expired(error);
        }
        self.failures += 1;
        LeaseState::Alive
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    const TTL: Duration = Duration::from_secs(30);

    fn second(start: Instant, second: u64) -> Instant {
        start + Duration::from_secs(second)
    }

    fn gone() -> Error {
        Error::Deadline {
            deadline: Duration::ZERO,
        }
    }

    fn not_found() -> Error {
        let details =
            ErrorDetails::with_error_info("SESSION_NOT_FOUND", "hangar.v1", HashMap::new());
        Error::from_status(
            "s",
            Status::with_error_details(Code::NotFound, "gone", details),
        )
    }

    #[bounded::test]
    fn a_lease_is_renewed_in_each_third_of_its_time() {
        let start = Instant::now();
        let mut lease = Lease::new(TTL, start);
        for turn in 1..100 {
            assert_eq!(lease.pause(), TTL / 3);
            let now = second(start, 10 * turn);
            assert!(matches!(lease.after(Ok(()), now, now), LeaseState::Alive));
        }
    }

    #[bounded::test]
    fn after_a_failure_the_tries_come_closer_and_then_slow_down() {
        let start = Instant::now();
        let mut lease = Lease::new(TTL, start);
        let pauses: Vec<_> = (0..5)
            .map(|_| {
                let step = lease.after(Err(gone()), start, start);
                assert!(matches!(step, LeaseState::Alive));
                lease.pause().as_secs()
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 5, 5]);
        lease.after(Ok(()), start, start);
        assert_eq!(lease.pause(), TTL / 3);
    }

    #[bounded::test]
    fn a_session_that_must_have_lapsed_is_expired() {
        let start = Instant::now();
        let mut lease = Lease::new(TTL, start);
        let (begun, ended) = (second(start, 9), second(start, 10));
        lease.after(Ok(()), begun, ended);
        let step = lease.after(Err(gone()), second(start, 30), second(start, 38));
        assert!(matches!(step, LeaseState::Alive));
        let step = lease.after(Err(gone()), second(start, 38), second(start, 39));
        assert!(matches!(step, LeaseState::Expired(Error::Deadline { .. })));
    }

    #[bounded::test]
    fn a_session_that_the_server_does_not_know_is_expired_at_once() {
        let start = Instant::now();
        let mut lease = Lease::new(TTL, start);
        let step = lease.after(Err(not_found()), start, start);
        assert!(matches!(step, LeaseState::Expired(Error::Refused(_))));
    }

    #[bounded::test]
    fn a_try_ends_with_the_lease() {
        let start = Instant::now();
        let lease = Lease::new(TTL, start);
        assert_eq!(lease.time_for_a_try(start), TTL / 3);
        let late = second(start, 25);
        assert_eq!(lease.time_for_a_try(late), Duration::from_secs(5));
        assert_eq!(lease.time_for_a_try(second(start, 40)), TTL / 30);
    }
}
