//! The requests of a call, read as they come, whether or not somebody takes them.
//!
//! What nobody reads holds up the whole connection, and small requests end it: HTTP/2 suffers only so many small frames
//! that wait. So a few requests wait here, and what is beyond is refused one by one. Only a caller that reads none of its
//! refusals is read no further.

use std::sync::Arc;

use futures::{Stream, StreamExt};
use hangar_client::inference::ModelInferRequest;
use prost::Message;
use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    mpsc::{self, error::TrySendError},
    oneshot,
};
use tonic::Status;

use crate::rpc::{
    error::ApiError,
    request_memory::{HeldMemory, StreamMemory},
};

/// What comes of the requests of a call.
pub(super) struct Incoming {
    /// Those that wait, in order. An error is the last.
    pub(super) waiting: mpsc::Receiver<Result<Waiting, Status>>,
    /// Those for which there is no place.
    pub(super) refused: mpsc::Receiver<Refused>,
    /// Whether they were read to their end.
    pub(super) read: oneshot::Receiver<()>,
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    request: ModelInferRequest,
    memory: HeldMemory,
    _length: OwnedSemaphorePermit,
}

/// What identifies a request for which there is no place.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) model: String,
    pub(super) id: String,
    pub(super) why: Refusal,
    _memory: Option<HeldMemory>,
    _length: OwnedSemaphorePermit,
}

/// Why there is no place for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// As many of the call wait as may, or as long ones.
    OfTheCall,
    /// All calls together have no more memory than this.
    Memory(usize),
}

/// Reads the requests.
struct Reader {
    memory: StreamMemory,
    waiting: mpsc::Sender<Result<Waiting, Status>>,
    refused: mpsc::Sender<Refused>,
    /// What may still be taken of the lengths of those that wait and of those that are refused, in bytes.
    waiting_length: Arc<Semaphore>,
    refused_length: Arc<Semaphore>,
}

/// Requests of a call that wait, and their length in bytes together, as far as one alone is not longer.
const MAX_WAITING: usize = 1024;
const MAX_WAITING_BYTES: u32 = 64 << 20;

/// Refusals that were not taken, and bytes of the names in them.
const MAX_REFUSED: usize = 4096;
const MAX_REFUSED_BYTES: u32 = 256 << 10;

/// What comes of `requests` while the future runs, which ends with them, or when nobody wants them any more.
pub(super) fn incoming<R>(
    requests: R,
    memory: StreamMemory,
) -> (Incoming, impl Future<Output = ()> + Send)
where
    R: Stream<Item = Result<ModelInferRequest, Status>> + Send + Unpin,
{
    let (waiting, next) = mpsc::channel(MAX_WAITING);
    let (refused, next_refused) = mpsc::channel(MAX_REFUSED);
    let (ended, read) = oneshot::channel();
    let reader = Reader {
        memory: memory.clone(),
        waiting,
        refused,
        waiting_length: semaphore(MAX_WAITING_BYTES),
        refused_length: semaphore(MAX_REFUSED_BYTES),
    };
    let incoming = Incoming {
        waiting: next,
        refused: next_refused,
        read,
    };
    let reading = async move {
        memory.within(reader.read(requests)).await;
        // A caller that went away hears nothing any more.
        let _ = ended.send(());
    };
    (incoming, reading)
}

impl Waiting {
    /// The request, which waits no more, and its memory.
    pub(super) fn request(self) -> (ModelInferRequest, HeldMemory) {
        (self.request, self.memory)
    }
}

impl Reader {
    async fn read<R>(&self, mut requests: R)
    where
        R: Stream<Item = Result<ModelInferRequest, Status>> + Unpin,
    {
        loop {
            let next = tokio::select! {
                () = self.waiting.closed() => return,
                next = requests.next() => next,
            };
            let wanted = match next {
                Some(Ok(request)) => self.take(request).await,
                Some(Err(status)) => {
                    // With its buffers, which nobody needs while this waits for its place.
                    drop(requests);
                    // Nobody may hear of it.
                    let _ = self.waiting.send(Err(status)).await;
                    return;
                }
                None => return,
            };
            if !wanted {
                return;
            }
        }
    }

    /// Has `request` wait or refuses it; says whether somebody wants to hear of it.
    async fn take(&self, request: ModelInferRequest) -> bool {
        let Some(memory) = self.memory.hold_decoded() else {
            let limit = self.memory.limit();
            return self.refuse(request, Refusal::Memory(limit)).await;
        };
        let length = bytes(request.encoded_len(), MAX_WAITING_BYTES);
        let taken = self.waiting_length.clone().try_acquire_many_owned(length);
        let Ok(taken) = taken else {
            return self.refuse(request, Refusal::OfTheCall).await;
        };
        let waiting = Waiting {
            request,
            memory,
            _length: taken,
        };
        match self.waiting.try_send(Ok(waiting)) {
            Ok(()) => true,
            Err(TrySendError::Full(Ok(waiting))) => {
                let (request, _) = waiting.request();
                self.refuse(request, Refusal::OfTheCall).await
            }
            Err(_) => false,
        }
    }

    async fn refuse(&self, mut request: ModelInferRequest, why: Refusal) -> bool {
        let [model, id] = [&mut request.model_name, &mut request.id].map(std::mem::take);
        drop(request);
        let length = bytes(model.len() + id.len(), MAX_REFUSED_BYTES);
        let taken = self.refused_length.clone().acquire_many_owned(length);
        let taken = tokio::select! {
            () = self.refused.closed() => return false,
            taken = taken => taken,
        };
        // The semaphore is never closed.
        let Ok(taken) = taken else { return false };
        let bytes = size_of::<Refused>() + model.len() + id.len();
        // They are few and short: one more is no reason to end the call.
        let memory = self.memory.hold(bytes);
        let refused = Refused {
            model,
            id,
            why,
            _memory: memory,
            _length: taken,
        };
        self.refused.send(refused).await.is_ok()
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::OfTheCall => ApiError::TooManyOfACall { limit: MAX_WAITING },
            Refusal::Memory(limit) => ApiError::RequestMemory { limit },
        }
        .into()
    }
}

fn semaphore(permits: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits as usize))
}

/// So many bytes as may be taken at all.
fn bytes(length: usize, limit: u32) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX).min(limit)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::stream;

    use super::*;

    fn requests(
        count: usize,
        bytes: usize,
    ) -> impl Stream<Item = Result<ModelInferRequest, Status>> + Send + Unpin {
        let contents = Bytes::from(vec![0; bytes]);
        stream::iter(0..count).map(move |n| {
            Ok(ModelInferRequest {
                id: n.to_string(),
                raw_input_contents: vec![contents.clone()],
                ..ModelInferRequest::default()
            })
        })
    }

    fn memory() -> StreamMemory {
        StreamMemory::of(1 << 20)
    }

    /// How many of so many requests wait and are refused when nobody takes any.
    async fn read(count: usize, bytes: usize) -> (usize, usize) {
        let (mut incoming, reading) = incoming(requests(count, bytes), memory());
        reading.await;
        incoming.read.await.expect("all of them");
        let mut ids = Vec::new();
        while let Some(waiting) = incoming.waiting.recv().await {
            ids.push(waiting.expect("a request").request().0.id);
        }
        let waiting = ids.len();
        while let Some(refused) = incoming.refused.recv().await {
            assert_eq!(refused.why, Refusal::OfTheCall);
            ids.push(refused.id);
        }
        let expected: Vec<_> = (0..count).map(|n| n.to_string()).collect();
        assert_eq!(ids, expected);
        (waiting, count - waiting)
    }

    #[bounded::test]
    async fn requests_beyond_those_that_may_wait_are_refused() {
        assert_eq!(read(10, 0).await, (10, 0));
        assert_eq!(
            read(3 * MAX_WAITING, 0).await,
            (MAX_WAITING, 2 * MAX_WAITING)
        );
        let most = MAX_WAITING_BYTES as usize;
        assert_eq!(read(10, most / 4).await, (3, 7));
        assert_eq!(read(2, 2 * most).await, (1, 1), "a single one always waits");
    }

    #[bounded::test]
    async fn nothing_is_read_behind_an_error() {
        let broken = stream::iter([Err(Status::internal("broken"))]);
        let requests = requests(3, 0).chain(broken);
        let (mut incoming, reading) = incoming(requests.chain(stream::pending()), memory());
        reading.await;
        for _ in 0..3 {
            assert!(
                incoming
                    .waiting
                    .recv()
                    .await
                    .is_some_and(|next| next.is_ok())
            );
        }
        assert!(
            incoming
                .waiting
                .recv()
                .await
                .is_some_and(|last| last.is_err())
        );
        assert!(incoming.waiting.recv().await.is_none());
    }

    #[bounded::test]
    async fn reading_ends_when_nobody_wants_more() {
        let (incoming, reading) = incoming(stream::pending(), memory());
        drop(incoming);
        reading.await;
    }
}
