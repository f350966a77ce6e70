//! Ends calls whose handler or whose stream panics: with INTERNAL, and nobody else notices.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::error::{ApiError, trailers};
use crate::supervisor::panic_message;

/// Response body that ends with trailers of INTERNAL where the inner one panics.
#[derive(Debug)]
pub struct UnwindBody<B> {
    /// `None` once it has panicked.
    inner: Option<B>,
}

/// The answer to a call whose handler panicked.
pub fn panicked(cause: Box<dyn Any + Send>) -> http::Response<tonic::body::Body> {
    let cause = panic_message(&*cause);
    Status::from(ApiError::Internal(cause)).into_http()
}

impl<B> UnwindBody<B> {
    /// `inner`, whose panics are caught.
    pub fn new(inner: B) -> Self {
        Self { inner: Some(inner) }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for UnwindBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(context)));
        match polled {
            Ok(frame) => Poll::Ready(ready!(frame)),
            Err(panic) => {
                self.inner = None;
                let status = ApiError::Internal(panic_message(&*panic)).into();
                Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::{BodyExt, StreamBody};
    use tonic::Code;

    use super::*;

    #[bounded::test]
    async fn a_stream_that_panics_ends_with_internal() {
        let mut frames = vec![Bytes::from_static(b"one")];
        let frames = stream::poll_fn(move |_| match frames.pop() {
            Some(bytes) => Poll::Ready(Some(Ok::<_, Status>(Frame::data(bytes)))),
            None => panic!("for a test"),
        });
        let body = UnwindBody::new(StreamBody::new(frames));
        let answer = body.collect().await.expect("an end");
        let trailers = answer.trailers().expect("trailers");
        let status = Status::from_header_map(trailers).expect("a status");
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("for a test"));
        assert_eq!(answer.to_bytes(), "one");
    }
}
