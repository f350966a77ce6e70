//! How many requests are with the engine at a time, and that its KV cache holds them all.
//!
//! A request enters with the blocks that its prompt and its longest answer can come to. So the engine never
//! runs out of blocks: what it does then is to compute a sequence anew, or to drop it without an end.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::inspect::kv_cache::{KEPT, blocks_of};

/// Room for requests.
pub(crate) struct Room {
    turns: Semaphore,
    /// Blocks of the cache, and how many there are. `None`: it grows with each request.
    blocks: Option<(Semaphore, u32)>,
}

/// A request's place; given up when dropped.
pub(crate) struct Stay<'a> {
    _turn: SemaphorePermit<'a>,
    _blocks: Option<SemaphorePermit<'a>>,
}

impl Room {
    /// Room for `turns` requests at a time, in a cache of `blocks` blocks if it has a size.
    pub(crate) fn new(turns: u32, blocks: Option<u32>) -> Self {
        let usable = |all: u32| all.saturating_sub(KEPT as u32);
        Self {
            turns: Semaphore::new(turns.max(1) as usize),
            blocks: blocks.map(|all| (Semaphore::new(usable(all) as usize), usable(all))),
        }
    }

    /// Waits for a place for a request of at most so many tokens, in the order of the calls. `None` never
    /// comes: the room is not closed.
    pub(crate) async fn enter(&self, tokens: usize) -> Option<Stay<'_>> {
        let turn = self.turns.acquire().await.ok()?;
        let blocks = match &self.blocks {
            None => None,
            Some((blocks, all)) => {
                let wanted = u32::try_from(blocks_of(tokens as u64)).unwrap_or(u32::MAX);
                Some(blocks.acquire_many(wanted.min(*all)).await.ok()?)
            }
        };
        Some(Stay {
            _turn: turn,
            _blocks: blocks,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn enter(room: &Room, tokens: usize) -> Option<Stay<'_>> {
        let mut context = Context::from_waker(Waker::noop());
        match pin!(room.enter(tokens)).poll(&mut context) {
            Poll::Ready(stay) => stay,
            Poll::Pending => None,
        }
    }

    #[test]
    fn requests_take_turns() {
        let room = Room::new(1, None);
        let first = enter(&room, 1_000_000);
        assert!(first.is_some());
        assert!(enter(&room, 1).is_none());
        drop(first);
        assert!(enter(&room, 1).is_some());
    }

    #[test]
    fn what_does_not_fit_into_the_cache_waits() {
        // Ten usable blocks; a request of 100 tokens takes five.
        let room = Room::new(8, Some(11));
        let first = enter(&room, 100).expect("a place");
        let second = enter(&room, 100).expect("a place");
        assert!(enter(&room, 1).is_none());
        drop((first, second));
        // More than all is all.
        assert!(enter(&room, 1_000_000).is_some());
    }
}
