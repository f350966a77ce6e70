//! Tests of what a caller gets at its deadline.

use std::{
    convert::Infallible,
    future::{pending, ready},
};

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

#[bounded::test]
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

#[bounded::test]
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

#[bounded::test]
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

#[bounded::test]
async fn a_stream_that_falls_silent_ends_at_the_deadline() {
    use futures::StreamExt;
    let silent = futures::stream::iter([data()]).chain(futures::stream::pending());
    let (status, data) = status_of(Some("20m"), frames(silent)).await;
    let status = status.unwrap();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(reason(&status), "DEADLINE_EXCEEDED");
    assert_eq!(data, b"x");
}

#[bounded::test]
async fn a_stream_that_never_pauses_ends_at_the_deadline() {
    let (status, data) = status_of(Some("20m"), frames(futures::stream::repeat_with(data))).await;
    assert_eq!(status.unwrap().code(), Code::DeadlineExceeded);
    assert!(!data.is_empty());
}

#[bounded::test]
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

#[bounded::test]
async fn a_stream_that_ends_in_time_is_passed_on() {
    for timeout in [None, Some("1H"), Some("99999999H")] {
        let body = frames(futures::stream::iter([data(), data(), ok_trailers()]));
        let (status, data) = status_of(timeout, body).await;
        assert_eq!(status.unwrap().code(), Code::Ok);
        assert_eq!(data, b"xx");
    }
}
