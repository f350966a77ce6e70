//! What the engine does now, as counters; no step has to lock anything.

mod pace;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hangar_worker_protocol::v1::WatchStatsResponse;
use pace::PaceMeter;
pub(crate) use pace::TooSlow;
use tokio::sync::Notify;

use crate::{kv_blocks::BLOCK, rpc_threads::RpcThreads};

/// Counters of one engine.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    steps: AtomicU64,
    in_flight: AtomicU32,
    device_bytes: AtomicU64,
    kv_blocks_used: AtomicU32,
    kv_blocks_total: AtomicU32,
    prompts: Mutex<PrefillState>,
    long_prompt: Notify,
    threads: RpcThreads,
}

/// What the engine does with prompts: changed twice a request.
#[derive(Debug, Default)]
struct PrefillState {
    /// Lengths of those that have no first token yet.
    reading: Vec<u64>,
    longest_prefilled: u64,
    pace: PaceMeter,
    /// Requests that were counted so far.
    begun: u64,
}

/// A request that is with the engine; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    reading: Arc<Prefill>,
    tokens: u64,
    blocks: u32,
}

/// A prompt that is with the engine.
#[derive(Debug)]
pub(crate) struct Prefill {
    stats: Arc<Stats>,
    tokens: u64,
    began: Instant,
    over: AtomicBool,
    /// Which request it is, if there was no other one when it began.
    alone: Option<u64>,
}

/// A prompt of so many tokens may be what ends the worker: it is reported at once, and so is what joins it.
const LONG_PROMPT: u64 = 256;

impl Stats {
    /// Of an engine whose worker answers calls on `threads`.
    pub(crate) fn new(threads: RpcThreads) -> Self {
        Self {
            threads,
            ..Self::default()
        }
    }

    /// The threads that answer calls.
    pub(crate) fn threads(&self) -> &RpcThreads {
        &self.threads
    }

    /// The engine made a token of some request.
    pub(crate) fn count_step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request with a prompt of that many tokens.
    pub(crate) fn begin(self: &Arc<Self>, prompt_tokens: usize) -> InFlight {
        let tokens = prompt_tokens as u64;
        let mut prompts = self.prompts();
        let others = self.in_flight.fetch_add(1, Ordering::Relaxed);
        prompts.begun += 1;
        prompts.reading.push(tokens);
        let alone = (others == 0).then_some(prompts.begun);
        if prompts.reading.iter().any(|tokens| *tokens >= LONG_PROMPT) {
            self.long_prompt.notify_one();
        }
        drop(prompts);
        let reading = Prefill {
            stats: Arc::clone(self),
            tokens,
            began: Instant::now(),
            over: AtomicBool::new(false),
            alone,
        };
        let mut request = InFlight {
            reading: Arc::new(reading),
            tokens,
            blocks: 0,
        };
        request.take_blocks();
        request
    }

    /// So many tokens came after the first one of an answer, in that time.
    pub(crate) fn record_decode(&self, tokens: u32, took: Duration) {
        let now = Instant::now();
        self.prompts().pace.record_decode(tokens.into(), took, now);
    }

    /// Whether prompts of `all` tokens together, the longest of them of `longest`, cannot be read in the time
    /// that is `left`, by all that was seen of late.
    pub(crate) fn too_slow(&self, all: u64, longest: u64, left: Duration) -> Option<TooSlow> {
        let prompts = self.prompts();
        prompts.pace.too_slow(all, longest, left, Instant::now())
    }

    /// Returns when the engine got a long prompt. For one who waits. Safe to cancel.
    pub(crate) async fn long_prompt(&self) {
        self.long_prompt.notified().await;
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
    pub(crate) fn snapshot(&self) -> WatchStatsResponse {
        let engine_cpu_time = self.threads.engine_cpu_time();
        let kv_blocks_total = self.kv_blocks_total.load(Ordering::Relaxed);
        let used = self.kv_blocks_used.load(Ordering::Relaxed);
        let prompts = self.prompts();
        WatchStatsResponse {
            steps: self.steps.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            prefill_tokens: prompts.reading.iter().sum(),
            device_bytes: self.device_bytes.load(Ordering::Relaxed),
            // Without a cache in blocks there are none to be used.
            kv_blocks_used: used.min(kv_blocks_total),
            kv_blocks_total,
            longest_prefill_tokens: prompts.reading.iter().copied().max().unwrap_or(0),
            longest_prefilled_tokens: prompts.longest_prefilled,
            pace: prompts.pace.to_message(),
            engine_cpu_time: engine_cpu_time.try_into().ok(),
        }
    }

    fn prompts(&self) -> MutexGuard<'_, PrefillState> {
        self.prompts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PrefillState {
    fn leave(&mut self, tokens: u64) {
        if let Some(at) = self.reading.iter().position(|other| *other == tokens) {
            self.reading.swap_remove(at);
        }
    }
}

impl Prefill {
    /// The engine made a step of this request, and has still to get the rest of its prompt.
    pub(crate) fn go_on(&self) {
        self.stats.count_step();
    }

    /// The engine made a step of this request, whose prompt it has. The first one ends the reading.
    pub(crate) fn step(&self) {
        self.stats.count_step();
        if !self.over.swap(true, Ordering::Relaxed) {
            let now = Instant::now();
            let mut prompts = self.stats.prompts();
            prompts.leave(self.tokens);
            prompts.longest_prefilled = prompts.longest_prefilled.max(self.tokens);
            // With others it measures how busy the engine is, and not how quick.
            if self.alone == Some(prompts.begun) {
                prompts
                    .pace
                    .record_prefill(self.tokens, now - self.began, now);
            }
        }
    }

    /// The engine has released the request, perhaps without having read it.
    fn end(&self) {
        if !self.over.swap(true, Ordering::Relaxed) {
            self.stats.prompts().leave(self.tokens);
        }
    }
}

impl InFlight {
    /// The prompt, for whoever sees the engine's steps.
    pub(crate) fn reading(&self) -> &Arc<Prefill> {
        &self.reading
    }

    /// The sequence has become one token longer.
    pub(crate) fn add_token(&mut self) {
        self.tokens += 1;
        self.take_blocks();
    }

    fn take_blocks(&mut self) {
        let blocks = u32::try_from(self.tokens.div_ceil(BLOCK)).unwrap_or(u32::MAX);
        let more = blocks.saturating_sub(self.blocks);
        if more > 0 {
            let stats = &self.reading.stats;
            stats.kv_blocks_used.fetch_add(more, Ordering::Relaxed);
            self.blocks = blocks;
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.reading.end();
        let stats = &self.reading.stats;
        stats
            .kv_blocks_used
            .fetch_sub(self.blocks, Ordering::Relaxed);
        stats.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn a_sequence_has_the_blocks_of_its_tokens() {
        let stats = Arc::new(Stats::default());
        let used = || stats.snapshot().kv_blocks_used;
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
        assert_eq!((used(), stats.snapshot().kv_blocks_total), (0, 100));
    }

    #[bounded::test]
    fn a_request_is_counted_until_it_is_dropped() {
        let stats = Arc::new(Stats::default());
        let one = stats.begin(7);
        let two = stats.begin(3);
        let now = || {
            let read = stats.snapshot();
            (
                read.in_flight,
                read.prefill_tokens,
                read.longest_prefill_tokens,
            )
        };
        assert_eq!(now(), (2, 10, 7));
        one.reading().step();
        one.reading().step();
        assert_eq!(now(), (2, 3, 3));
        drop((one, two));
        assert_eq!(now(), (0, 0, 0));
        // The second was given up before it was read.
        assert_eq!(
            (
                stats.snapshot().steps,
                stats.snapshot().longest_prefilled_tokens
            ),
            (2, 7)
        );
    }

    #[bounded::test]
    fn a_prompt_that_was_given_up_is_no_sign_of_speed() {
        let stats = Arc::new(Stats::default());
        drop(stats.begin(1000));
        assert_eq!(stats.snapshot().pace, None);
        stats.begin(1000).reading().step();
        assert!(stats.snapshot().pace.is_some());
    }

    #[bounded::test]
    fn only_a_prompt_that_is_read_alone_is_a_sign_of_speed() {
        let stats = Arc::new(Stats::default());
        let one = stats.begin(1000);
        let two = stats.begin(1000);
        one.reading().step();
        two.reading().step();
        assert_eq!(stats.snapshot().pace, None);
        drop(one);
        let three = stats.begin(1000);
        drop(two);
        three.reading().step();
        assert_eq!(
            stats.snapshot().pace,
            None,
            "another one was answered meanwhile"
        );
        drop(three);
        stats.begin(1000).reading().step();
        assert!(stats.snapshot().pace.is_some());
    }
}
