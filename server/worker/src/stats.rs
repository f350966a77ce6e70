//! What the engine does now, as counters that nobody has to lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hangar_client::worker::v1::WatchStatsResponse;

use crate::inspect::kv_cache::BLOCK;

/// Counters of one engine.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    steps: AtomicU64,
    in_flight: AtomicU32,
    prefill_tokens: AtomicU64,
    device_bytes: AtomicU64,
    kv_blocks_used: AtomicU32,
    kv_blocks_total: AtomicU32,
}

/// A request that is with the engine; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    stats: Arc<Stats>,
    prefill_tokens: u64,
    tokens: u64,
    blocks: u32,
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
        let mut request = InFlight {
            stats: Arc::clone(self),
            prefill_tokens,
            tokens: prefill_tokens,
            blocks: 0,
        };
        request.take_blocks();
        request
    }

    /// The device memory that the engine has taken, in bytes.
    pub(crate) fn set_device_bytes(&self, bytes: u64) {
        self.device_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The KV cache has that many blocks.
    pub(crate) fn set_kv_blocks(&self, blocks: u32) {
        self.kv_blocks_total.store(blocks, Ordering::Relaxed);
    }

    /// The counters now.
    pub(crate) fn read(&self) -> WatchStatsResponse {
        let kv_blocks_total = self.kv_blocks_total.load(Ordering::Relaxed);
        let used = self.kv_blocks_used.load(Ordering::Relaxed);
        WatchStatsResponse {
            steps: self.steps.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            prefill_tokens: self.prefill_tokens.load(Ordering::Relaxed),
            device_bytes: self.device_bytes.load(Ordering::Relaxed),
            // Without a cache in blocks there are none to be used.
            kv_blocks_used: used.min(kv_blocks_total),
            kv_blocks_total,
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

impl InFlight {
    /// The sequence has become one token longer.
    pub(crate) fn add_token(&mut self) {
        self.tokens += 1;
        self.take_blocks();
    }

    fn take_blocks(&mut self) {
        let blocks = u32::try_from(self.tokens.div_ceil(BLOCK)).unwrap_or(u32::MAX);
        let more = blocks.saturating_sub(self.blocks);
        if more > 0 {
            self.stats.kv_blocks_used.fetch_add(more, Ordering::Relaxed);
            self.blocks = blocks;
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.prefilled();
        let blocks = self.blocks;
        self.stats
            .kv_blocks_used
            .fetch_sub(blocks, Ordering::Relaxed);
        self.stats.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_has_the_blocks_of_its_tokens() {
        let stats = Arc::new(Stats::default());
        let used = || stats.read().kv_blocks_used;
        let mut one = stats.begin(31);
        assert_eq!(used(), 0, "there is no cache in blocks");
        stats.set_kv_blocks(100);
        assert_eq!(used(), 1);
        one.add_token();
        assert_eq!(used(), 1);
        one.add_token();
        let two = stats.begin(64);
        assert_eq!(used(), 2 + 2);
        drop(one);
        assert_eq!(used(), 2);
        drop(two);
        assert_eq!((used(), stats.read().kv_blocks_total), (0, 100));
    }

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
