//! A common bound of the memory that requests take, whoever sends them: of what has come of a request until it is decoded,
//! and of what became of it until its call ends. A request for which there is no memory is refused; only calls with many
//! requests ([`StreamMemory`]) wait for it for a while before they read on.
//!
//! The first 4 KiB of each call are free, which the limits of connections and streams bound. The call's memory is among the
//! extensions of its HTTP request.

mod arrivals;
mod call_memory;
mod stream;

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arrivals::Arrivals;
use bytes::Bytes;
pub(super) use call_memory::CallMemory;
use call_memory::RequestMemory;
use futures::{FutureExt, future::BoxFuture};
use hangar_client::server_codec::within_budget;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
pub(super) use stream::{HeldMemory, StreamMemory};
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;
use tower::{Layer, Service};

use super::{error::ApiError, guarded_body::GuardedBody};

/// Error of a body.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Layer that makes a [`RequestMemoryService`].
#[derive(Clone, Debug)]
pub struct RequestMemoryLayer(RequestMemory);

/// Refuses requests for which there is no memory.
#[derive(Clone, Debug)]
pub struct RequestMemoryService<S> {
    inner: S,
    memory: RequestMemory,
}

/// A request body whose buffers have memory.
pub struct RequestBody<B> {
    inner: B,
    arrivals: Arrivals,
    call: Arc<CallMemory>,
    /// What came and waits for memory, and for how long it may.
    held: Option<HeldFrame>,
    hold: Duration,
}

/// A frame for which there has to be memory.
struct HeldFrame {
    frame: Frame<Bytes>,
    /// How it waits, if there was none when it came.
    wait: Option<Wait>,
}

/// Until when a frame waits, and when it looks again.
struct Wait {
    until: Instant,
    next: Pin<Box<Sleep>>,
}

/// A response body during which the call has its memory.
type ResponseBody<B> = GuardedBody<B, Arc<CallMemory>>;

/// Longest pause of a request.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Longest time that one waits for memory: what is not read holds up its whole connection.
const MAX_HOLD: Duration = Duration::from_secs(2);

/// Between two looks for memory.
const LOOK: Duration = Duration::from_millis(50);

impl RequestMemoryLayer {
    /// At most `limit` bytes for all requests.
    pub fn new(limit: usize) -> Self {
        Self(RequestMemory::new(limit))
    }
}

impl<S> Layer<S> for RequestMemoryLayer {
    type Service = RequestMemoryService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestMemoryService {
            inner,
            memory: self.0.clone(),
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
        let call = Arc::new(CallMemory::new(self.memory.clone()));
        let mut request = request.map(|inner| RequestBody {
            inner,
            arrivals: Arrivals::new(MAX_PAUSE),
            call: call.clone(),
            held: None,
            hold: MAX_HOLD,
        });
        request.extensions_mut().insert(call.clone());
        let answer = within_budget(call.clone(), self.inner.call(request));
        let held = async move {
            let answer = answer.await?;
            Ok(answer.map(|inner| GuardedBody::new(inner, call)))
        };
        held.boxed()
    }
}

impl<B> RequestBody<B> {
    /// The frame, once there is memory for what has come.
    fn admit(
        &mut self,
        mut held: HeldFrame,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Err(refused) = self.call.buffer(self.arrivals.largest()) else {
            return Poll::Ready(Some(Ok(held.frame)));
        };
        let now = Instant::now();
        let wait = held.wait.get_or_insert_with(|| Wait {
            until: now + self.hold,
            next: Box::pin(sleep(LOOK)),
        });
        if !self.call.has_many() || now >= wait.until {
            return Poll::Ready(Some(Err(refused.into())));
        }
        wait.next.as_mut().reset(now + LOOK);
        if wait.next.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        self.held = Some(held);
        Poll::Pending
    }

    /// Whether the request does not go on. Between many there may be any time.
    fn is_stuck(&mut self, context: &mut Context<'_>) -> bool {
        let goes_on = self.arrivals.in_message() || !self.call.has_many();
        goes_on && self.arrivals.is_late(context)
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
        if let Some(held) = this.held.take() {
            return this.admit(held, context);
        }
        match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Pending if this.is_stuck(context) => {
                Poll::Ready(Some(Err(Status::from(ApiError::RequestStuck).into())))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    this.arrivals.pass(data);
                }
                this.admit(HeldFrame { frame, wait: None }, context)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> Drop for RequestBody<B> {
    fn drop(&mut self) {
        self.call.drop_buffers();
    }
}

impl<B> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody")
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
