//! How often a caller hears of an answer.
//!
//! Each message wakes processes on its way, which on few cores is time that the engine does not have. A fast
//! engine's tokens are sent in messages a millisecond apart; nothing waits when they come more slowly, nor the
//! first token, nor the end.

use std::time::{Duration, Instant};

/// Time between two messages of a fast engine.
const PAUSE: Duration = Duration::from_millis(1);

/// Messages that are further apart are those of an engine that is not fast. More than a pause takes, which a
/// timer makes longer by up to a millisecond.
const SLOW: Duration = Duration::from_millis(4);

/// When the next message may leave.
#[derive(Debug, Default)]
pub(crate) struct SendThrottle {
    last: Option<Instant>,
    until: Option<Instant>,
}

impl SendThrottle {
    /// A message left.
    pub(crate) fn sent(&mut self, now: Instant) {
        let before = self.last.replace(now);
        let is_fast = before.is_some_and(|before| now.saturating_duration_since(before) < SLOW);
        self.until = is_fast.then_some(now + PAUSE);
    }

    /// What is to be waited for before the next one.
    pub(crate) fn pause(&mut self, now: Instant) -> Option<Instant> {
        self.until = self.until.filter(|until| *until > now);
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn only_messages_in_quick_succession_are_followed_by_a_pause() {
        let mut pace = SendThrottle::default();
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(pace.pause(at(0)), None);
        pace.sent(at(0));
        assert_eq!(pace.pause(at(0)), None);
        pace.sent(at(1));
        assert_eq!(pace.pause(at(1)), Some(at(2)));
        assert_eq!(pace.pause(at(2)), None);
        pace.sent(at(4));
        assert_eq!(pace.pause(at(4)), Some(at(5)));
        pace.sent(at(8));
        assert_eq!(pace.pause(at(8)), None);
        pace.sent(at(50));
        assert_eq!(pace.pause(at(50)), None);
    }
}
