//! Enforces the caller's deadline (`grpc-timeout`) over the whole call, streams included.
//!
//! Invariant: a call with a deadline ends with DEADLINE_EXCEEDED as soon as the deadline passes, and by
//! then its handler or its response stream has been dropped. A call without one passes unchanged.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tower::{Layer, Service};

/// Name of the header that carries the time-out of a call.
const GRPC_TIMEOUT: &str = "grpc-timeout";

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

// === impl DeadlineLayer ===

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService { inner }
    }
}

// === impl DeadlineService ===

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
        request.extensions_mut().insert(Deadline(deadline));
        let call = self.inner.call(request);
        Box::pin(async move {
            match tokio::time::timeout_at(deadline, call).await {
                Ok(response) => Ok(response?.map(|body| DeadlineBody::until(body, deadline))),
                Err(_) => Ok(refusal(deadline_exceeded())),
            }
        })
    }
}

// === impl DeadlineBody ===

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

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(3);
    if status.add_header(&mut trailers).is_err() {
        // Only a status with bytes that no header can carry fails; ours are constant.
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("4"));
    }
    trailers
}

fn deadline_exceeded() -> Status {
    let details = ErrorDetails::with_error_info("DEADLINE_EXCEEDED", "hangar.v1", []);
    Status::with_error_details(
        Code::DeadlineExceeded,
        "the call's deadline passed before it was done",
        details,
    )
}

fn malformed_timeout() -> Status {
    let mut details = ErrorDetails::with_error_info(
        "INVALID_FIELD",
        "hangar.v1",
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
mod tests {
    use std::convert::Infallible;
    use std::future::{pending, ready};

    use http_body_util::{BodyExt, StreamBody};
    use tower::{ServiceExt, service_fn};

    use super::*;

    type TestBody = http_body_util::combinators::BoxBody<Bytes, Infallible>;

    fn request(timeout: Option<&str>) -> Request<()> {
        let builder = Request::builder().uri("/hangar.v1.ModelService/GetInfo");
        match timeout {
            Some(timeout) => builder.header(GRPC_TIMEOUT, timeout),
            None => builder,
        }
        .body(())
        .unwrap()
    }

    /// Calls a service that answers with `body` and tells the status that the caller gets.
    async fn status_of(timeout: Option<&str>, body: TestBody) -> (Option<Status>, Vec<u8>) {
        let mut body = Some(body);
        let inner = service_fn(move |_| {
            let body = body.take().unwrap();
            ready(Ok::<_, Infallible>(Response::new(TestService(body))))
        });
        let response = DeadlineLayer.layer(inner).oneshot(request(timeout)).await;
        let (parts, body) = response.unwrap().into_parts();
        let collected = body.collect().await.unwrap();
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let data = collected.to_bytes().to_vec();
        let status = Status::from_header_map(&parts.headers);
        (status.or_else(|| Status::from_header_map(&trailers)), data)
    }

    /// A body that can be made by default, as a refusal needs.
    struct TestService(TestBody);

    impl Default for TestService {
        fn default() -> Self {
            Self(BodyExt::boxed(http_body_util::Empty::new()))
        }
    }

    impl Body for TestService {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Pin::new(&mut self.0).poll_frame(cx)
        }
    }

    fn frames<S>(frames: S) -> TestBody
    where
        S: futures::Stream<Item = Frame<Bytes>> + Send + Sync + 'static,
    {
        use futures::StreamExt;
        BodyExt::boxed(StreamBody::new(frames.map(Ok)))
    }

    fn data() -> Frame<Bytes> {
        Frame::data(Bytes::from_static(b"x"))
    }

    fn ok_trailers() -> Frame<Bytes> {
        Frame::trailers(trailers(&Status::ok("")))
    }

    fn reason(status: &Status) -> String {
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(info.domain, "hangar.v1");
        info.reason.clone()
    }

    #[test]
    fn timeouts_are_parsed_as_the_protocol_says() {
        for (text, expected) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("00000003S", Duration::from_secs(3)),
            ("250m", Duration::from_millis(250)),
            ("7u", Duration::from_micros(7)),
            ("0n", Duration::ZERO),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ] {
            assert_eq!(parse_timeout(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "S",
            "1",
            "1s",
            "123456789S",
            "-1S",
            "+1S",
            "1.5S",
            " 1S",
            "1S ",
            "1é",
        ] {
            assert_eq!(parse_timeout(text), Err(MalformedTimeout), "{text}");
        }
    }

    #[tokio::test]
    async fn a_malformed_timeout_is_refused_without_a_call() {
        let inner = service_fn(|_: Request<()>| async {
            unreachable!("the inner service is not called");
            #[allow(unreachable_code)]
            Ok::<_, Infallible>(Response::new(TestService::default()))
        });
        let response = DeadlineLayer
            .layer(inner)
            .oneshot(request(Some("soon")))
            .await;
        let status = Status::from_header_map(response.unwrap().headers()).unwrap();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(reason(&status), "INVALID_FIELD");
    }

    #[tokio::test]
    async fn a_call_without_an_answer_ends_at_the_deadline() {
        let inner = service_fn(|request: Request<()>| {
            assert!(request.extensions().get::<Deadline>().is_some());
            pending::<Result<Response<TestService>, Infallible>>()
        });
        let response = DeadlineLayer
            .layer(inner)
            .oneshot(request(Some("20m")))
            .await;
        let response = response.unwrap();
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(reason(&status), "DEADLINE_EXCEEDED");
        assert_eq!(response.headers()["content-type"], "application/grpc");
    }

    #[tokio::test]
    async fn a_stream_that_falls_silent_ends_at_the_deadline() {
        use futures::StreamExt;
        let silent = futures::stream::iter([data()]).chain(futures::stream::pending());
        let (status, data) = status_of(Some("20m"), frames(silent)).await;
        let status = status.unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(reason(&status), "DEADLINE_EXCEEDED");
        assert_eq!(data, b"x");
    }

    #[tokio::test]
    async fn a_stream_that_never_pauses_ends_at_the_deadline() {
        let (status, data) =
            status_of(Some("20m"), frames(futures::stream::repeat_with(data))).await;
        assert_eq!(status.unwrap().code(), Code::DeadlineExceeded);
        assert!(!data.is_empty());
    }

    #[tokio::test]
    async fn a_stream_is_dropped_at_the_deadline() {
        let (held, mut dropped) = tokio::sync::oneshot::channel::<()>();
        let stream = futures::stream::once(async move {
            let _held = held;
            pending().await
        });
        let mut body = DeadlineBody::until(frames(stream), Instant::now());
        let frame = body.frame().await.unwrap().unwrap();
        assert!(frame.is_trailers());
        assert!(
            dropped
                .try_recv()
                .is_err_and(|e| e == tokio::sync::oneshot::error::TryRecvError::Closed)
        );
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_stream_that_ends_in_time_is_passed_on() {
        for timeout in [None, Some("1H"), Some("99999999H")] {
            let body = frames(futures::stream::iter([data(), data(), ok_trailers()]));
            let (status, data) = status_of(timeout, body).await;
            assert_eq!(status.unwrap().code(), Code::Ok);
            assert_eq!(data, b"xx");
        }
    }
}
