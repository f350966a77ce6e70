//! Enforces the caller's deadline (`grpc-timeout`) over the whole call, streams included.
//!
//! Invariant: a call with a deadline ends with DEADLINE_EXCEEDED as soon as the deadline passes, and by
//! then its handler or its response stream has been dropped. A call without one passes unchanged. One whose client takes
//! nothing, and so not its end either, is reset a moment later.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hangar_client::ERROR_DOMAIN;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tower::{Layer, Service};

use super::error::trailers;
use crate::net::end_stream_after;

/// Name of the header that carries the time-out of a call.
const GRPC_TIMEOUT: &str = "grpc-timeout";

/// Time that a client has to take the end of its call.
const LAST_WORD: Duration = Duration::from_secs(1);

/// When the caller of a request gives up; in the request's extensions if it set a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Instant);

/// Layer that makes a [`DeadlineService`].
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadlineLayer;

/// Ends calls at their deadline.
///
/// A malformed `grpc-timeout` is answered with INVALID_ARGUMENT without calling the inner service.
#[derive(Clone, Debug)]
pub struct DeadlineService<S> {
    inner: S,
}

/// Response body that ends with trailers of DEADLINE_EXCEEDED at the call's deadline.
pub struct DeadlineBody<B> {
    /// `None` once the deadline passed: the stream behind it has ended then.
    inner: Option<B>,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// `grpc-timeout` is not what the gRPC protocol allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MalformedTimeout;

/// When a call ends: at its caller's deadline, or after the time that its request names if that is earlier.
pub(super) fn earliest(caller: Option<Deadline>, timeout: Option<Duration>) -> Option<Instant> {
    let timeout = timeout.map(|timeout| Instant::now() + timeout);
    caller
        .map(|caller| caller.0)
        .into_iter()
        .chain(timeout)
        .min()
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService { inner }
    }
}

impl<S, A, B> Service<Request<A>> for DeadlineService<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Default + Unpin + Send + 'static,
{
    type Response = Response<DeadlineBody<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        let deadline = match timeout_of(request.headers()) {
            Ok(timeout) => timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            Err(MalformedTimeout) => return Box::pin(async { Ok(refusal(malformed_timeout())) }),
        };
        let Some(deadline) = deadline else {
            let call = self.inner.call(request);
            return Box::pin(async move { Ok(call.await?.map(DeadlineBody::unlimited)) });
        };
        if deadline <= Instant::now() {
            return Box::pin(async { Ok(refusal(deadline_exceeded())) });
        }
        request.extensions_mut().insert(Deadline(deadline));
        let call = self.inner.call(request);
        Box::pin(async move {
            end_stream_after(deadline, LAST_WORD);
            match tokio::time::timeout_at(deadline, call).await {
                Ok(response) => Ok(response?.map(|body| DeadlineBody::until(body, deadline))),
                Err(_) => Ok(refusal(deadline_exceeded())),
            }
        })
    }
}

impl<B> DeadlineBody<B> {
    fn unlimited(inner: B) -> Self {
        Self {
            inner: Some(inner),
            sleep: None,
        }
    }

    fn until(inner: B, deadline: Instant) -> Self {
        Self {
            inner: Some(inner),
            sleep: Some(Box::pin(sleep_until(deadline))),
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for DeadlineBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let Some(inner) = this.inner.as_mut() else {
            return Poll::Ready(None);
        };
        // The deadline goes first: a stream that always has a frame must not outlive it. The clock is
        // read too because such a stream may keep the timer from running.
        if let Some(sleep) = this.sleep.as_mut()
            && (sleep.as_mut().poll(cx).is_ready() || Instant::now() >= sleep.deadline())
        {
            this.sleep = None;
            this.inner = None;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(&deadline_exceeded())))));
        }
        let frame = std::task::ready!(Pin::new(inner).poll_frame(cx));
        if frame.as_ref().is_none_or(is_last) {
            this.sleep = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.inner, &self.sleep) {
            (Some(inner), None) => inner.size_hint(),
            (None, _) => SizeHint::with_exact(0),
            // The deadline may come before the end.
            (Some(_), Some(_)) => SizeHint::default(),
        }
    }
}

impl<B: Default> Default for DeadlineBody<B> {
    fn default() -> Self {
        Self::unlimited(B::default())
    }
}

impl<B> fmt::Debug for DeadlineBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadlineBody")
            .field("deadline", &self.sleep.as_ref().map(|s| s.deadline()))
            .finish_non_exhaustive()
    }
}

/// Whether nothing may follow this frame.
fn is_last<E>(frame: &Result<Frame<Bytes>, E>) -> bool {
    frame.as_ref().map_or(true, Frame::is_trailers)
}

/// A response that consists of a status only.
fn refusal<B: Default>(status: Status) -> Response<DeadlineBody<B>> {
    status.into_http()
}

fn deadline_exceeded() -> Status {
    let details = ErrorDetails::with_error_info("DEADLINE_EXCEEDED", ERROR_DOMAIN, []);
    Status::with_error_details(
        Code::DeadlineExceeded,
        "the call's deadline passed before it was done",
        details,
    )
}

fn malformed_timeout() -> Status {
    let mut details = ErrorDetails::with_error_info(
        "INVALID_FIELD",
        ERROR_DOMAIN,
        [("field".to_owned(), GRPC_TIMEOUT.to_owned())],
    );
    details.add_bad_request_violation(
        GRPC_TIMEOUT,
        "must be at most eight digits and a unit: H, M, S, m, u or n",
    );
    Status::with_error_details(
        Code::InvalidArgument,
        "malformed grpc-timeout header: must be at most eight digits and a unit, for example 30S",
        details,
    )
}

/// Time-out of a call; `None` if it has none.
fn timeout_of(headers: &HeaderMap) -> Result<Option<Duration>, MalformedTimeout> {
    headers
        .get(GRPC_TIMEOUT)
        .map(|value| value.to_str().map_err(|_| MalformedTimeout))
        .transpose()?
        .map(parse_timeout)
        .transpose()
}

/// Parses `TimeoutValue TimeoutUnit` of the gRPC over HTTP/2 protocol, for example `250m`.
fn parse_timeout(text: &str) -> Result<Duration, MalformedTimeout> {
    let (digits, unit) = text
        .char_indices()
        .next_back()
        .map(|(at, unit)| (&text[..at], unit))
        .ok_or(MalformedTimeout)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(MalformedTimeout);
    }
    let value: u64 = digits.parse().map_err(|_| MalformedTimeout)?;
    match unit {
        'H' => Ok(Duration::from_secs(value * 60 * 60)),
        'M' => Ok(Duration::from_secs(value * 60)),
        'S' => Ok(Duration::from_secs(value)),
        'm' => Ok(Duration::from_millis(value)),
        'u' => Ok(Duration::from_micros(value)),
        'n' => Ok(Duration::from_nanos(value)),
        _ => Err(MalformedTimeout),
    }
}

#[cfg(test)]
mod tests;
