//! Error statuses on their way out of a server: the one place that bounds them.
//!
//! Texts of foreign origin get into statuses: a caller's words, a chat template's, file names. A status goes out as
//! HTTP/2 headers, for which clients have limits (8 KB with gRPC's C core and Java, 16 KB with hyper), and a client
//! that meets more gives up the call or its whole connection.
//!
//! Invariant: what passes [`StatusService`] fits into [`MAX_ENCODED`] bytes, message and details together.

mod bounds;

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

pub use bounds::{MAX_ENCODED, bounded};
use http_body::Body;
use tonic::{
    Code, Status,
    codegen::{
        Bytes, Service,
        http::{HeaderMap, HeaderName, Request, Response, Uri},
    },
    server::NamedService,
};

/// Makes the status that a caller gets of one that a call to a path ended with.
pub type Finish = fn(&str, Status) -> Status;

/// Bounds the error statuses of the inner service, be they in headers or in trailers.
#[derive(Clone, Debug)]
pub struct StatusService<S> {
    inner: S,
    finish: Finish,
}

/// Response body whose error trailers are bounded.
pub struct StatusBody<B> {
    inner: B,
    /// `None` once the status has passed.
    call: Option<(Uri, Finish)>,
}

/// The headers that a status consists of.
const HEADERS: [HeaderName; 3] = [
    Status::GRPC_STATUS,
    Status::GRPC_MESSAGE,
    Status::GRPC_STATUS_DETAILS,
];

impl<S> StatusService<S> {
    /// Bounds the errors of `inner`.
    pub fn new(inner: S) -> Self {
        Self::finishing(inner, |_, status| status)
    }

    /// Has `finish` complete the errors of `inner`, and bounds what comes of it.
    pub fn finishing(inner: S, finish: Finish) -> Self {
        Self { inner, finish }
    }
}

impl<S, A, B> Service<Request<A>> for StatusService<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<StatusBody<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let call = (request.uri().clone(), self.finish);
        let response = self.inner.call(request);
        Box::pin(async move {
            let (mut head, inner) = response.await?.into_parts();
            let in_trailers = !head.headers.contains_key(Status::GRPC_STATUS);
            if !in_trailers {
                finish(&call, &mut head.headers);
            }
            let call = in_trailers.then_some(call);
            Ok(Response::from_parts(head, StatusBody { inner, call }))
        })
    }
}

impl<S: NamedService> NamedService for StatusService<S> {
    const NAME: &'static str = S::NAME;
}

impl<B: Body<Data = Bytes> + Unpin> Body for StatusBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, B::Error>>> {
        let mut frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
            && let Some(call) = self.call.take()
        {
            finish(&call, trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

impl<B: Default> Default for StatusBody<B> {
    fn default() -> Self {
        Self {
            inner: B::default(),
            call: None,
        }
    }
}

impl<B> fmt::Debug for StatusBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusBody").finish_non_exhaustive()
    }
}

/// Finishes and bounds the status in `headers`, if it is an error.
fn finish((uri, finish): &(Uri, Finish), headers: &mut HeaderMap) {
    let status = match Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => status,
        _ => return,
    };
    let status = bounded(finish(uri.path(), status));
    let mut written = HeaderMap::with_capacity(HEADERS.len());
    if let Err(error) = status.add_header(&mut written) {
        // Percent-encoding and base64 leave nothing that a header could not carry.
        tracing::error!(%error, "a status cannot be written");
        return;
    }
    for name in HEADERS {
        match written.remove(&name) {
            Some(value) => headers.insert(name, value),
            None => headers.remove(name),
        };
    }
}
