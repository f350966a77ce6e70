//! Encoded responses that a caller of Generate has not taken yet.
//!
//! Putting one in never waits. Beyond a few, chunks are decoded and put together, so that a slow caller finds
//! fewer and longer ones, none of them longer than any client takes; what is buffered is never more than the answer.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use hangar_client::v1::{GenerateChunk, GenerateResponse, generate_response::Event};
use prost::{DecodeError, Message};
use tonic::Status;

use crate::rpc::error::ApiError;

type Response = Result<Bytes, Status>;

/// The side that the responses come from.
pub(super) struct Outbox(Arc<Channel>);

/// The side of the caller.
pub(super) struct Inbox(Arc<Channel>);

#[derive(Default)]
struct Channel(Mutex<Buffered>);

#[derive(Default)]
struct Buffered {
    chunks: VecDeque<Bytes>,
    /// What came after these: few chunks of each answer.
    rest: VecDeque<Joined>,
    last: Option<Response>,
    ended: bool,
    caller: Option<Waker>,
}

/// Chunks that were put together.
struct Joined {
    chunk: GenerateChunk,
    /// Its length when it is encoded, or a little more.
    bytes: usize,
}

/// Chunks that are kept as they came.
const CHUNKS: usize = 16;

/// Length of chunks that are put together, at most: far below the 4 MiB that most clients take.
const MAX_JOINED: usize = 1 << 20;

/// An empty outbox.
pub(super) fn outbox() -> (Outbox, Inbox) {
    let channel = Arc::new(Channel::default());
    (Outbox(channel.clone()), Inbox(channel))
}

impl Outbox {
    /// Adds a response that is a chunk.
    ///
    /// # Errors
    ///
    /// When it cannot be decoded, should it have to be.
    pub(super) fn put(&mut self, response: Bytes) -> Result<(), DecodeError> {
        self.0.change(|buffered| {
            if buffered.rest.is_empty() && buffered.chunks.len() < CHUNKS {
                buffered.chunks.push_back(response);
                return Ok(());
            }
            let bytes = response.len();
            if let Some(Event::Chunk(chunk)) = GenerateResponse::decode(response)?.event {
                match buffered.rest.back_mut() {
                    Some(rest) if rest.takes(&chunk, bytes) => rest.append(chunk, bytes),
                    _ => buffered.rest.push_back(Joined { chunk, bytes }),
                }
            }
            Ok(())
        })
    }

    /// Adds the last response.
    pub(super) fn end(self, last: Response) {
        self.0.change(|buffered| {
            buffered.ended = true;
            buffered.last = Some(last);
        });
    }
}

impl Drop for Outbox {
    /// An answer has an end, also one whose task panicked; unless its caller has gone, which is no fault.
    fn drop(&mut self) {
        let awaited = Arc::strong_count(&self.0) > 1;
        self.0.change(|buffered| {
            if awaited && !buffered.ended {
                buffered.ended = true;
                buffered.last = Some(Err(
                    ApiError::Internal("the answer was dropped".to_owned()).into()
                ));
            }
        });
    }
}

impl Inbox {
    /// The next response; `None` after the last.
    pub(super) fn poll_next(&mut self, context: &Context<'_>) -> Poll<Option<Response>> {
        let mut buffered = self.0.lock();
        if let Some(response) = buffered.chunks.pop_front() {
            return Poll::Ready(Some(Ok(response)));
        }
        if let Some(Joined { chunk, .. }) = buffered.rest.pop_front() {
            drop(buffered);
            let event = Some(Event::Chunk(chunk));
            let response = GenerateResponse { event }.encode_to_vec();
            return Poll::Ready(Some(Ok(response.into())));
        }
        if buffered.ended {
            return Poll::Ready(buffered.last.take());
        }
        buffered.caller = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Joined {
    /// Whether `chunk`, which was encoded in so many bytes, is of the same answer and there is room for it.
    fn takes(&self, chunk: &GenerateChunk, bytes: usize) -> bool {
        self.chunk.index == chunk.index && self.bytes + bytes <= MAX_JOINED
    }

    fn append(&mut self, chunk: GenerateChunk, bytes: usize) {
        let rest = &mut self.chunk;
        rest.text.push_str(&chunk.text);
        rest.reasoning.push_str(&chunk.reasoning);
        rest.token_ids.extend(chunk.token_ids);
        rest.logprobs.extend(chunk.logprobs);
        rest.prompt_logprobs.extend(chunk.prompt_logprobs);
        self.bytes += bytes;
    }
}

impl Channel {
    fn change<T>(&self, change: impl FnOnce(&mut Buffered) -> T) -> T {
        let (changed, caller) = {
            let mut buffered = self.lock();
            (change(&mut buffered), buffered.caller.take())
        };
        if let Some(caller) = caller {
            caller.wake();
        }
        changed
    }

    fn lock(&self) -> MutexGuard<'_, Buffered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use hangar_client::v1::TokenLogprob;

    use super::*;

    fn chunk(token: u32) -> Bytes {
        let chunk = GenerateChunk {
            text: format!("{token} "),
            token_ids: vec![token],
            reasoning: format!("<{token}>"),
            index: token / 90,
            ..GenerateChunk::default()
        };
        let event = Some(Event::Chunk(chunk));
        GenerateResponse { event }.encode_to_vec().into()
    }

    async fn next(inbox: &mut Inbox) -> Option<Response> {
        std::future::poll_fn(|context| inbox.poll_next(context)).await
    }

    #[bounded::test]
    async fn what_is_not_taken_is_put_together_and_nothing_is_lost() {
        let (mut outbox, mut inbox) = outbox();
        for token in 0..100 {
            outbox.put(chunk(token)).expect("a chunk");
        }
        outbox.end(Ok(Bytes::new()));
        let (mut chunks, mut tokens, mut text) = (0, Vec::new(), String::new());
        let (mut reasoning, mut indices) = (String::new(), Vec::new());
        while let Some(Ok(response)) = next(&mut inbox).await {
            let response = GenerateResponse::decode(response).expect("a response");
            let Some(Event::Chunk(chunk)) = response.event else {
                break;
            };
            chunks += 1;
            tokens.extend(chunk.token_ids);
            text.push_str(&chunk.text);
            reasoning.push_str(&chunk.reasoning);
            indices.push(chunk.index);
        }
        assert_eq!(chunks, CHUNKS + 2, "what is of one answer is put together");
        assert_eq!(indices.split_off(CHUNKS), [0, 1]);
        assert_eq!(
            reasoning,
            (0..100)
                .map(|token| format!("<{token}>"))
                .collect::<String>()
        );
        assert_eq!(tokens, (0..100).collect::<Vec<_>>());
        assert_eq!(
            text,
            (0..100)
                .map(|token| format!("{token} "))
                .collect::<String>()
        );
        assert!(next(&mut inbox).await.is_none());
    }

    #[bounded::test]
    async fn what_is_put_together_fits_into_a_message() {
        let (mut outbox, mut inbox) = outbox();
        let long = |token: u32| {
            let logprob = TokenLogprob {
                token_id: token,
                text: "x".repeat(10_000),
                ..TokenLogprob::default()
            };
            let chunk = GenerateChunk {
                token_ids: vec![token],
                logprobs: vec![logprob],
                ..GenerateChunk::default()
            };
            let event = Some(Event::Chunk(chunk));
            GenerateResponse { event }.encode_to_vec().into()
        };
        for token in 0..500 {
            outbox.put(long(token)).expect("a chunk");
        }
        outbox.end(Err(Status::aborted("no")));
        let mut tokens = Vec::new();
        while let Some(Ok(response)) = next(&mut inbox).await {
            assert!(response.len() <= MAX_JOINED, "{} bytes", response.len());
            let response = GenerateResponse::decode(response).expect("a response");
            let Some(Event::Chunk(chunk)) = response.event else {
                panic!("no chunk")
            };
            tokens.extend(chunk.token_ids);
        }
        assert_eq!(tokens, (0..500).collect::<Vec<_>>());
    }

    #[bounded::test]
    async fn a_caller_that_reads_again_gets_responses_as_they_came() {
        let (mut outbox, mut inbox) = outbox();
        for token in 0..100 {
            outbox.put(chunk(token)).expect("a chunk");
        }
        for _ in 0..CHUNKS + 2 {
            assert!(next(&mut inbox).await.is_some());
        }
        outbox.put(chunk(100)).expect("a chunk");
        assert_eq!(
            next(&mut inbox).await.and_then(Result::ok),
            Some(chunk(100))
        );
    }

    #[bounded::test]
    async fn a_caller_that_waits_is_woken() {
        let (mut outbox, mut inbox) = outbox();
        let give = async {
            tokio::task::yield_now().await;
            outbox.put(chunk(1)).expect("a chunk");
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

    #[bounded::test]
    async fn an_answer_has_an_end_in_any_case() {
        let (outbox, mut inbox) = outbox();
        drop(outbox);
        assert!(next(&mut inbox).await.is_some_and(|next| next.is_err()));
        assert!(next(&mut inbox).await.is_none());
    }
}
