//! Responses that a caller of Generate has not taken yet.
//!
//! Putting one in never waits. Beyond a few, chunks are put together, so that a slow caller finds fewer
//! and longer ones; what is held is never more than the answer.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use hangar_client::v1::{GenerateChunk, GenerateResponse, generate_response::Event};
use tonic::Status;

use crate::rpc::error::ApiError;

type Last = Result<GenerateResponse, Status>;

/// The side that the responses come from.
pub(super) struct Outbox(Arc<Shared>);

/// The side of the caller.
pub(super) struct Inbox(Arc<Shared>);

#[derive(Default)]
struct Shared(Mutex<Held>);

#[derive(Default)]
struct Held {
    chunks: VecDeque<GenerateChunk>,
    last: Option<Last>,
    ended: bool,
    caller: Option<Waker>,
}

/// Chunks that are held as they came.
const CHUNKS: usize = 16;

/// An empty outbox.
pub(super) fn outbox() -> (Outbox, Inbox) {
    let shared = Arc::new(Shared::default());
    (Outbox(shared.clone()), Inbox(shared))
}

// === impl Outbox ===

impl Outbox {
    /// Adds a chunk.
    pub(super) fn put(&mut self, chunk: GenerateChunk) {
        self.0.change(|held| {
            let full = held.chunks.len() == CHUNKS;
            match held.chunks.back_mut().filter(|_| full) {
                Some(last) => {
                    last.text.push_str(&chunk.text);
                    last.token_ids.extend(chunk.token_ids);
                    last.logprobs.extend(chunk.logprobs);
                }
                None => held.chunks.push_back(chunk),
            }
        });
    }

    /// Adds the last response.
    pub(super) fn end(self, last: Last) {
        self.0.change(|held| {
            held.ended = true;
            held.last = Some(last);
        });
    }
}

impl Drop for Outbox {
    /// An answer has an end, also one whose task panicked.
    fn drop(&mut self) {
        self.0.change(|held| {
            if !held.ended {
                held.ended = true;
                held.last = Some(Err(
                    ApiError::Internal("the answer was dropped".to_owned()).into()
                ));
            }
        });
    }
}

// === impl Inbox ===

impl Inbox {
    /// The next response; `None` after the last.
    pub(super) fn poll_next(&mut self, context: &Context<'_>) -> Poll<Option<Last>> {
        let mut held = self.0.lock();
        if let Some(chunk) = held.chunks.pop_front() {
            return Poll::Ready(Some(Ok(GenerateResponse {
                event: Some(Event::Chunk(chunk)),
            })));
        }
        if held.ended {
            return Poll::Ready(held.last.take());
        }
        held.caller = Some(context.waker().clone());
        Poll::Pending
    }
}

// === impl Shared ===

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Held)) {
        let caller = {
            let mut held = self.lock();
            change(&mut held);
            held.caller.take()
        };
        if let Some(caller) = caller {
            caller.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(token: u32) -> GenerateChunk {
        GenerateChunk {
            text: format!("{token} "),
            token_ids: vec![token],
            logprobs: Vec::new(),
        }
    }

    async fn next(inbox: &mut Inbox) -> Option<Last> {
        std::future::poll_fn(|context| inbox.poll_next(context)).await
    }

    #[tokio::test]
    async fn what_is_not_taken_is_put_together_and_nothing_is_lost() {
        let (mut outbox, mut inbox) = outbox();
        for token in 0..100 {
            outbox.put(chunk(token));
        }
        outbox.end(Ok(GenerateResponse::default()));
        let (mut chunks, mut tokens, mut text) = (0, Vec::new(), String::new());
        while let Some(Ok(GenerateResponse {
            event: Some(Event::Chunk(chunk)),
        })) = next(&mut inbox).await
        {
            chunks += 1;
            tokens.extend(chunk.token_ids);
            text.push_str(&chunk.text);
        }
        assert_eq!(chunks, CHUNKS);
        assert_eq!(tokens, (0..100).collect::<Vec<_>>());
        assert_eq!(
            text,
            (0..100)
                .map(|token| format!("{token} "))
                .collect::<String>()
        );
        assert!(next(&mut inbox).await.is_none());
    }

    #[tokio::test]
    async fn a_caller_that_waits_is_woken() {
        let (mut outbox, mut inbox) = outbox();
        let give = async {
            tokio::task::yield_now().await;
            outbox.put(chunk(1));
            tokio::task::yield_now().await;
            outbox.end(Err(Status::aborted("no")));
        };
        let take = async {
            assert!(next(&mut inbox).await.is_some_and(|next| next.is_ok()));
            assert!(next(&mut inbox).await.is_some_and(|next| next.is_err()));
            assert!(next(&mut inbox).await.is_none());
        };
        tokio::join!(take, give);
    }

    #[tokio::test]
    async fn an_answer_has_an_end_in_any_case() {
        let (outbox, mut inbox) = outbox();
        drop(outbox);
        assert!(next(&mut inbox).await.is_some_and(|next| next.is_err()));
        assert!(next(&mut inbox).await.is_none());
    }
}
