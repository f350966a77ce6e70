//! A common bound of the memory that requests take, whoever sends them: of what a request announces until it is decoded,
//! and of what became of it until its call ends. Nobody waits for memory: a request for which there is none is refused.
//!
//! The first 64 KiB of each call are free, which the limits of connections and streams bound. Calls with many requests find
//! their [`StreamMemory`] among the extensions of the HTTP request, where each request gives back its own.

mod announced;
mod call_memory;
mod stream;

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use announced::Announced;
use bytes::Bytes;
use call_memory::{CallMemory, RequestMemory};
use futures::{FutureExt, future::BoxFuture};
use hangar_client::server_codec::{RequestRoom, within_room};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
pub(super) use stream::{RequestClaim, StreamMemory};
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;
use tower::{Layer, Service};

use super::{deadline::Deadline, guarded_body::GuardedBody};

/// Error of a body.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Layer that makes a [`RequestMemoryService`].
#[derive(Clone, Debug)]
pub struct RequestMemoryLayer {
    memory: RequestMemory,
    /// What is longer is refused before it takes any.
    max_request_bytes: usize,
}

/// Refuses requests for which there is no memory.
#[derive(Clone, Debug)]
pub struct RequestMemoryService<S> {
    inner: S,
    layer: RequestMemoryLayer,
}

/// A request body that has memory for the message that comes.
pub struct RequestBody<B> {
    inner: B,
    announced: Announced,
    /// Of the message that comes.
    claim: usize,
    max_request_bytes: usize,
    call: Arc<CallMemory>,
    /// Ends a call without a deadline whose message does not go on.
    pause: Option<Pause>,
}

/// A limit of the time between two frames.
struct Pause {
    limit: Duration,
    end: Pin<Box<Sleep>>,
}

/// A response body during which the call has its memory.
type ResponseBody<B> = GuardedBody<B, Arc<CallMemory>>;

/// Longest pause in a message of a call without a deadline.
const MAX_PAUSE: Duration = Duration::from_secs(60);

impl RequestMemoryLayer {
    /// At most `limit` bytes for all requests, none of which is longer than `max_request_bytes`.
    pub fn new(limit: usize, max_request_bytes: usize) -> Self {
        Self {
            memory: RequestMemory::new(limit),
            max_request_bytes,
        }
    }
}

impl<S> Layer<S> for RequestMemoryLayer {
    type Service = RequestMemoryService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestMemoryService {
            inner,
            layer: self.clone(),
        }
    }
}

impl<S, A, B> Service<Request<A>> for RequestMemoryService<S>
where
    S: Service<Request<RequestBody<A>>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<ResponseBody<B>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let RequestMemoryLayer {
            memory,
            max_request_bytes,
        } = self.layer.clone();
        let call = Arc::new(CallMemory::new(memory));
        let has_deadline = request.extensions().get::<Deadline>().is_some();
        let mut request = request.map(|inner| RequestBody {
            inner,
            announced: Announced::default(),
            claim: 0,
            max_request_bytes,
            call: call.clone(),
            pause: (!has_deadline).then(|| Pause::new(MAX_PAUSE)),
        });
        let of_stream = StreamMemory::new(call.clone());
        request.extensions_mut().insert(of_stream);
        let answer = within_room(call.clone(), self.inner.call(request));
        let held = async move {
            let answer = answer.await?;
            Ok(answer.map(|inner| GuardedBody::new(inner, call)))
        };
        held.boxed()
    }
}

impl Pause {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            end: Box::pin(sleep(limit)),
        }
    }
}

impl<B> RequestBody<B> {
    /// Has memory for as much as a message that begins announces, in place of the one before.
    fn claim(&mut self, data: &[u8]) -> Result<(), Status> {
        let Some(length) = self.announced.pass(data) else {
            return Ok(());
        };
        self.call.give_back(std::mem::take(&mut self.claim));
        // What is longer is refused as it is.
        if length <= self.max_request_bytes {
            self.call.take(length)?;
            self.claim = length;
        }
        Ok(())
    }

    /// Whether a message has not gone on for too long.
    fn is_stuck(&mut self, context: &mut Context<'_>) -> bool {
        let in_message = self.announced.in_message();
        let pause = self.pause.as_mut().filter(|_| in_message);
        pause.is_some_and(|pause| pause.end.as_mut().poll(context).is_ready())
    }
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let frame = match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Pending if this.is_stuck(context) => {
                let what =
                    "a message of the request broke off: nothing more came of it for a minute";
                return Poll::Ready(Some(Err(Status::internal(what).into())));
            }
            Poll::Pending => return Poll::Pending,
            Poll::Ready(frame) => frame,
        };
        let frame = frame.map(|frame| frame.map_err(Into::into));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            if let Some(pause) = &mut this.pause {
                pause.end.as_mut().reset(Instant::now() + pause.limit);
            }
            if let Err(refused) = this.claim(data) {
                return Poll::Ready(Some(Err(refused.into())));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> Drop for RequestBody<B> {
    fn drop(&mut self) {
        self.call.give_back(self.claim);
    }
}

impl<B> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody")
            .field("claim", &self.claim)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
