//! How many requests are with the engine at a time, and that its KV cache holds them all.
//!
//! A request enters with the blocks that its prompt and its longest answer can come to. So the engine never
//! runs out of blocks: what it does then is to compute a sequence anew, or to drop it without an end.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::kv_blocks::{RESERVED_BLOCKS, blocks_of};

/// Admits requests to the engine.
pub(crate) struct Scheduler {
    running: Semaphore,
    /// Blocks of the cache, and how many there are. `None`: it grows with each request.
    blocks: Option<(Semaphore, u32)>,
}

/// Lets a request be with the engine until it is dropped.
pub(crate) struct SchedulerPermit<'a> {
    _running: SemaphorePermit<'a>,
    _blocks: Option<SemaphorePermit<'a>>,
}

impl Scheduler {
    /// Admits `running` requests at a time, to a cache of `blocks` blocks if it has a size.
    pub(crate) fn new(running: u32, blocks: Option<u32>) -> Self {
        let usable = |all: u32| all.saturating_sub(RESERVED_BLOCKS as u32);
        Self {
            running: Semaphore::new(running.max(1) as usize),
            blocks: blocks.map(|all| (Semaphore::new(usable(all) as usize), usable(all))),
        }
    }

    /// Waits for the permit of a request of at most so many tokens, in the order of the calls. `None` never
    /// comes: the scheduler is not closed.
    pub(crate) async fn acquire(&self, tokens: usize) -> Option<SchedulerPermit<'_>> {
        let running = self.running.acquire().await.ok()?;
        let blocks = match &self.blocks {
            None => None,
            Some((blocks, all)) => {
                let wanted = u32::try_from(blocks_of(tokens as u64)).unwrap_or(u32::MAX);
                Some(blocks.acquire_many(wanted.min(*all)).await.ok()?)
            }
        };
        Some(SchedulerPermit {
            _running: running,
            _blocks: blocks,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn acquire(scheduler: &Scheduler, tokens: usize) -> Option<SchedulerPermit<'_>> {
        let mut context = Context::from_waker(Waker::noop());
        match pin!(scheduler.acquire(tokens)).poll(&mut context) {
            Poll::Ready(permit) => permit,
            Poll::Pending => None,
        }
    }

    #[bounded::test]
    fn with_one_permit_the_next_request_waits_for_the_first() {
        let scheduler = Scheduler::new(1, None);
        let first = acquire(&scheduler, 1_000_000);
        assert!(first.is_some());
        assert!(acquire(&scheduler, 1).is_none());
        drop(first);
        assert!(acquire(&scheduler, 1).is_some());
    }

    #[bounded::test]
    fn what_does_not_fit_into_the_cache_waits() {
        // Ten usable blocks; a request of 100 tokens takes five.
        let scheduler = Scheduler::new(8, Some(11));
        let first = acquire(&scheduler, 100).expect("a permit");
        let second = acquire(&scheduler, 100).expect("a permit");
        assert!(acquire(&scheduler, 1).is_none());
        drop((first, second));
        // More than all is all.
        assert!(acquire(&scheduler, 1_000_000).is_some());
    }
}
