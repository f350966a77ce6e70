//! The deadlines of one model.

use tokio::time::{Instant, sleep_until};

/// A deadline that a model can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The load's time is over.
    Load,
    /// The next attempt is due.
    Retry,
    /// The drain's time is over.
    Drain,
    /// A worker that was asked to exit has to be killed.
    Stop,
    /// A worker that was killed has not gone.
    Kill,
    /// The model has been READY for its stable period.
    Stable,
}

/// At most one deadline of each kind.
#[derive(Debug, Default)]
pub(super) struct Timers(Vec<(Timer, Instant)>);

impl Timers {
    /// Sets `timer` to `at`, in place of what it was set to.
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.clear(timer);
        self.0.push((timer, at));
    }

    /// Brings `timer` forward to `at`, if it is set to a later time.
    pub(super) fn set_earlier(&mut self, timer: Timer, at: Instant) {
        for (_, set) in self.0.iter_mut().filter(|(set, _)| *set == timer) {
            *set = at.min(*set);
        }
    }

    /// Forgets `timer`.
    pub(super) fn clear(&mut self, timer: Timer) {
        self.0.retain(|(set, _)| *set != timer);
    }

    /// Waits for the first deadline and forgets it. Safe to cancel; waits for ever if none is set.
    pub(super) async fn next(&mut self) -> Timer {
        let Some((timer, at)) = self.0.iter().copied().min_by_key(|(_, at)| *at) else {
            return std::future::pending().await;
        };
        sleep_until(at).await;
        self.clear(timer);
        timer
    }
}
