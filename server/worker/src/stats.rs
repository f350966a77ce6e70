//! What the engine does now, as counters that nobody has to lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hangar_client::worker::v1::WatchStatsResponse;

/// Counters of one engine.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    steps: AtomicU64,
    in_flight: AtomicU32,
    prefill_tokens: AtomicU64,
}

/// A request that is with the engine; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    stats: Arc<Stats>,
    prefill_tokens: u64,
}

impl Stats {
    /// The engine made a token of some request.
    pub(crate) fn count_step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request with a prompt of that many tokens.
    pub(crate) fn begin(self: &Arc<Self>, prompt_tokens: usize) -> InFlight {
        let prefill_tokens = prompt_tokens as u64;
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.prefill_tokens
            .fetch_add(prefill_tokens, Ordering::Relaxed);
        InFlight {
            stats: Arc::clone(self),
            prefill_tokens,
        }
    }

    /// The counters now.
    pub(crate) fn read(&self) -> WatchStatsResponse {
        WatchStatsResponse {
            steps: self.steps.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            prefill_tokens: self.prefill_tokens.load(Ordering::Relaxed),
            ..WatchStatsResponse::default()
        }
    }
}

impl InFlight {
    /// The first token is there. Further calls do nothing.
    pub(crate) fn prefilled(&mut self) {
        let tokens = std::mem::take(&mut self.prefill_tokens);
        self.stats
            .prefill_tokens
            .fetch_sub(tokens, Ordering::Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.prefilled();
        self.stats.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_until_it_is_dropped() {
        let stats = Arc::new(Stats::default());
        let mut one = stats.begin(7);
        let two = stats.begin(3);
        assert_eq!(
            (stats.read().in_flight, stats.read().prefill_tokens),
            (2, 10)
        );
        one.prefilled();
        one.prefilled();
        assert_eq!(stats.read().prefill_tokens, 3);
        drop((one, two));
        assert_eq!(
            (stats.read().in_flight, stats.read().prefill_tokens),
            (0, 0)
        );
    }
}
