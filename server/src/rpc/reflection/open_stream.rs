//! Streams of reflection: few at a time, and none outlives its responses.
//!
//! The library answers a stream in a task that nobody watches, which reads requests until they end. Here they end with the
//! responses, and the stream has its slot until the task has let go of them.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::FutureExt;
use http_body::{Body, Frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use crate::rpc::guarded_body::GuardedBody;

/// The requests of a stream.
pub struct Requests<B> {
    inner: B,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    _slot: Arc<OwnedSemaphorePermit>,
}

/// Ends the requests of a stream when it is dropped.
pub(super) struct OpenStream {
    _end: DropGuard,
    _slot: Arc<OwnedSemaphorePermit>,
}

/// A stream with these requests, unless there are as many as `slots` has.
pub(super) fn open<B>(slots: &Arc<Semaphore>, requests: B) -> Option<(Requests<B>, OpenStream)> {
    let slot = Arc::new(slots.clone().try_acquire_owned().ok()?);
    let end = CancellationToken::new();
    let requests = Requests {
        inner: requests,
        ended: Box::pin(end.clone().cancelled_owned()),
        _slot: slot.clone(),
    };
    let open = OpenStream {
        _end: end.drop_guard(),
        _slot: slot,
    };
    Some((requests, open))
}

impl OpenStream {
    /// The responses of the stream, which is open as long as they are there.
    pub(super) fn responses<B>(self, inner: B) -> GuardedBody<B, Self> {
        GuardedBody::new(inner, self)
    }
}

impl<B: Body + Unpin> Body for Requests<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        if self.ended.poll_unpin(context).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.inner).poll_frame(context)
    }
}
