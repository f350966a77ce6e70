//! A body that keeps something for as long as it is there.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The body `B`, which is dropped before the `K` that is kept with it.
pub struct GuardedBody<B, K> {
    inner: B,
    _kept: Option<K>,
}

impl<B, K> GuardedBody<B, K> {
    /// `inner`, with which `kept` is dropped.
    pub(super) fn new(inner: B, kept: K) -> Self {
        Self {
            inner,
            _kept: Some(kept),
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin, K: Unpin> Body for GuardedBody<B, K> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A body that keeps nothing.
impl<B: Default, K> Default for GuardedBody<B, K> {
    fn default() -> Self {
        Self {
            inner: B::default(),
            _kept: None,
        }
    }
}

impl<B, K> fmt::Debug for GuardedBody<B, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedBody").finish_non_exhaustive()
    }
}
