//! Memory for texts that are split into tokens, put together or rendered: so much of them at the same time that a worker
//! keeps within what it was admitted with, however many calls come together. Short texts have a part of their own, so that
//! none waits for long ones.

use std::sync::Arc;

use futures::executor::block_on;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::TextError;
use crate::call_work::LONG;

/// What all long texts may take together, and all short ones: half of what a worker may have beyond its model
/// (`server/src/worker/confine.rs`).
const LONG_LIMIT: usize = 208 << 20;
const SHORT_LIMIT: usize = 48 << 20;

/// What one permit stands for.
const UNIT: usize = 64 << 10;

/// Below this nobody waits: a dozen threads at most do that at the same time.
const SMALL: usize = 512 << 10;

/// What splitting a text into tokens takes, as a multiple of its bytes [measured with tokenizers of a few kinds].
const SPLITTING: usize = 200;

/// What a short text takes at most.
const SHORT: usize = LONG * SPLITTING;

/// What rendering a conversation takes, as a multiple of its bytes.
const RENDERING: usize = 8;

/// What putting one token to others takes, in bytes.
const JOINING: usize = 256;

/// The memory of one worker. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct TextMemory {
    long: Arc<Semaphore>,
    short: Arc<Semaphore>,
}

/// A share of it, until it is dropped.
#[derive(Debug)]
pub(crate) struct TextMemoryShare<'a>(
    #[expect(dead_code, reason = "gives back")] Option<SemaphorePermit<'a>>,
);

impl TextMemory {
    /// Blocks until a text of so many bytes may be split into tokens, in the order of the calls with
    /// short ones, or with long ones.
    pub(super) fn split(
        &self,
        bytes: usize,
        cancelled: &CancellationToken,
    ) -> Result<TextMemoryShare<'_>, TextError> {
        self.take(bytes.saturating_mul(SPLITTING), cancelled)
    }

    /// Blocks until a conversation of so many bytes may be rendered.
    pub(super) fn render(
        &self,
        bytes: usize,
        cancelled: &CancellationToken,
    ) -> Result<TextMemoryShare<'_>, TextError> {
        self.take(bytes.saturating_mul(RENDERING), cancelled)
    }

    /// Blocks until so many tokens may be put together.
    pub(super) fn join(
        &self,
        tokens: usize,
        cancelled: &CancellationToken,
    ) -> Result<TextMemoryShare<'_>, TextError> {
        self.take(tokens.saturating_mul(JOINING), cancelled)
    }

    /// What takes more than there is for long ones has all of that for itself. Nobody waits once they are cancelled.
    fn take(
        &self,
        bytes: usize,
        cancelled: &CancellationToken,
    ) -> Result<TextMemoryShare<'_>, TextError> {
        if cancelled.is_cancelled() {
            return Err(TextError::Cancelled);
        }
        if bytes <= SMALL {
            return Ok(TextMemoryShare(None));
        }
        let (memory, limit) = match bytes > SHORT {
            true => (&self.long, LONG_LIMIT),
            false => (&self.short, SHORT_LIMIT),
        };
        let units = bytes.min(limit).div_ceil(UNIT);
        // At most limit / UNIT. The semaphores are never closed. Who holds a share waits for nothing.
        let permits = u32::try_from(units).unwrap_or(u32::MAX);
        let share = cancelled.run_until_cancelled(memory.acquire_many(permits));
        match block_on(share) {
            Some(share) => Ok(TextMemoryShare(share.ok())),
            None => Err(TextError::Cancelled),
        }
    }
}

impl Default for TextMemory {
    fn default() -> Self {
        Self {
            long: Arc::new(Semaphore::new(LONG_LIMIT / UNIT)),
            short: Arc::new(Semaphore::new(SHORT_LIMIT / UNIT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    #[bounded::test]
    fn calls_share_what_there_is_and_come_in_their_order() {
        let memory = TextMemory::default();
        let never = CancellationToken::new();
        let take = |bytes| memory.take(bytes, &never).expect("a share");
        let half = take(LONG_LIMIT / 2);
        let other = take(LONG_LIMIT / 2);
        let (done, order) = mpsc::sync_channel(1);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let _all = take(usize::MAX);
                done.send("all")
            });
            // Small ones need not wait, and short ones not for long ones.
            drop(take(SMALL));
            drop([SHORT; SHORT_LIMIT / SHORT].map(take));
            drop(half);
            assert!(order.try_recv().is_err());
            drop(other);
            waiting.join().expect("no panic").expect("somebody listens");
        });
        assert_eq!(order.recv(), Ok("all"));
        assert_eq!(memory.short.available_permits(), SHORT_LIMIT / UNIT);
        assert_eq!(memory.long.available_permits(), LONG_LIMIT / UNIT);
    }

    #[bounded::test]
    fn who_is_cancelled_waits_no_longer() {
        let memory = TextMemory::default();
        let never = CancellationToken::new();
        let all = memory.take(LONG_LIMIT, &never).expect("a share");
        let cancelled = CancellationToken::new();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| memory.take(LONG_LIMIT, &cancelled).map(drop));
            cancelled.cancel();
            let refused = waiting.join().expect("no panic");
            assert_eq!(refused, Err(TextError::Cancelled));
        });
        assert!(memory.take(0, &cancelled).is_err());
        drop(all);
        assert_eq!(memory.long.available_permits(), LONG_LIMIT / UNIT);
    }
}
