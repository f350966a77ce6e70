//! A span and a measurement for each gRPC call, named as the semantic conventions for RPC say.
//!
//! Invariant: each call is recorded exactly once, when its last byte was handed over or when it was
//! dropped before that; then it was CANCELLED, or past its deadline.

use std::{
    collections::HashSet,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use hangar_client::code_name;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use opentelemetry::metrics::{Histogram, Meter};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::Code;
use tower::{Layer, Service};
use tracing::{Instrument, Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::labels::{RPC_ERROR, RPC_METHOD, RPC_STATUS, RPC_SYSTEM};
use crate::net::is_stream_overdue;

/// Name of a method that is not known: anybody can make up names, and each would be a series.
const OTHER: &str = "_OTHER";
/// Layer that makes an [`RpcService`].
#[derive(Clone)]
pub struct RpcLayer {
    calls: Arc<Calls>,
}

/// Records the calls of the inner service.
#[derive(Clone)]
pub struct RpcService<S> {
    inner: S,
    calls: Arc<Calls>,
}

/// Response body that records its call when it ends.
pub struct RpcBody<B> {
    inner: B,
    /// `None` once the call was recorded.
    call: Option<RpcCall>,
}

/// What all calls share.
struct Calls {
    duration: Histogram<f64>,
    methods: HashSet<String>,
}

/// A call that has not been recorded. Dropped, it was cancelled, or reset after its deadline.
struct RpcCall {
    calls: Arc<Calls>,
    method: Arc<str>,
    span: Span,
    start: Instant,
    recorded: bool,
}

impl RpcLayer {
    /// Records into instruments of `meter` all calls of the services that hangar offers; calls of
    /// others are named `_OTHER`.
    pub fn new(meter: &Meter) -> Self {
        let duration = super::instruments::CALL_DURATION.histogram(meter);
        let methods = methods().collect();
        Self {
            calls: Arc::new(Calls { duration, methods }),
        }
    }

    /// How many names calls may have, `_OTHER` included.
    #[cfg(test)]
    pub(super) fn methods(&self) -> usize {
        self.calls.methods.len() + 1
    }
}

impl<S> Layer<S> for RpcLayer {
    type Service = RpcService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RpcService {
            inner,
            calls: self.calls.clone(),
        }
    }
}

impl fmt::Debug for RpcLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcLayer").finish_non_exhaustive()
    }
}

impl<S, A, B> Service<Request<A>> for RpcService<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<RpcBody<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let mut call = RpcCall::begin(&self.calls, request.uri().path(), request.headers());
        let answer = {
            let _entered = call.span.enter();
            self.inner.call(request)
        };
        let span = call.span.clone();
        Box::pin(
            async move {
                match answer.await {
                    Ok(response) => Ok(response_of(call, response)),
                    Err(error) => {
                        call.end(Code::Unknown);
                        Err(error)
                    }
                }
            }
            .instrument(span),
        )
    }
}

impl<S> fmt::Debug for RpcService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcService").finish_non_exhaustive()
    }
}

/// Ends the call here if the response consists of headers only, else with its body.
fn response_of<B: Body>(mut call: RpcCall, response: Response<B>) -> Response<RpcBody<B>> {
    let status = status_of(response.headers());
    if status.is_some() || response.body().is_end_stream() {
        call.end(status.unwrap_or(Code::Unknown));
    }
    let call = (!call.recorded).then_some(call);
    response.map(|inner| RpcBody { inner, call })
}

impl<B: Body<Data = Bytes> + Unpin> Body for RpcBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let _entered = this.call.as_ref().map(|call| call.span.clone().entered());
        let frame = std::task::ready!(Pin::new(&mut this.inner).poll_frame(cx));
        let end = match &frame {
            Some(Ok(frame)) => frame
                .trailers_ref()
                .map(|trailers| status_of(trailers).unwrap_or(Code::Unknown)),
            // A stream that breaks off has no status; the client makes one up from the reset.
            Some(Err(_)) | None => Some(Code::Unknown),
        };
        if let Some(code) = end
            && let Some(mut call) = this.call.take()
        {
            call.end(code);
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

impl<B: Default> Default for RpcBody<B> {
    fn default() -> Self {
        Self {
            inner: B::default(),
            call: None,
        }
    }
}

impl<B> fmt::Debug for RpcBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcBody").finish_non_exhaustive()
    }
}

impl RpcCall {
    fn begin(calls: &Arc<Calls>, path: &str, headers: &HeaderMap) -> Self {
        let name = path.trim_start_matches('/');
        let method = calls.methods.get(name).map_or(OTHER, String::as_str);
        let span = info_span!(
            "rpc",
            otel.name = method,
            otel.kind = "server",
            otel.status_code = Empty,
            rpc.system.name = "grpc",
            rpc.method = method,
            rpc.response.status_code = Empty,
            error.type = Empty,
        );
        // An error means that there are no traces to be part of.
        let _ = span.set_parent(super::extract(headers));
        Self {
            calls: calls.clone(),
            method: method.into(),
            span,
            start: Instant::now(),
            recorded: false,
        }
    }

    fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.recorded, true) {
            return;
        }
        let name = code_name(code);
        let mut attributes = vec![
            RPC_SYSTEM.is(()),
            RPC_METHOD.is(self.method.clone()),
            RPC_STATUS.is(code),
        ];
        self.span.record("rpc.response.status_code", name);
        if is_fault(code) {
            attributes.push(RPC_ERROR.is(code));
            self.span.record("error.type", name);
            self.span.record("otel.status_code", "ERROR");
        }
        let seconds = self.start.elapsed().as_secs_f64();
        self.calls.duration.record(seconds, &attributes);
    }
}

impl Drop for RpcCall {
    fn drop(&mut self) {
        let code = if is_stream_overdue() {
            Code::DeadlineExceeded
        } else {
            Code::Cancelled
        };
        self.end(code);
    }
}

/// Full names of the methods of all services that hangar offers, such as `hangar.v1.ModelService/GetInfo`.
pub fn methods() -> impl Iterator<Item = String> {
    [
        hangar_client::v1::FILE_DESCRIPTOR_SET,
        hangar_client::inference::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ]
    .into_iter()
    .flat_map(methods_of)
}

/// Those of a descriptor set.
fn methods_of(set: &[u8]) -> Vec<String> {
    // A set that cannot be read has no methods; the tests show that ours can.
    let files = FileDescriptorSet::decode(set).unwrap_or_default().file;
    let mut names = Vec::new();
    for file in &files {
        for service in &file.service {
            for method in &service.method {
                names.push(format!(
                    "{}.{}/{}",
                    file.package(),
                    service.name(),
                    method.name()
                ));
            }
        }
    }
    names
}

fn status_of(headers: &HeaderMap) -> Option<Code> {
    let status = headers.get("grpc-status")?;
    Some(Code::from_bytes(status.as_bytes()))
}

/// Whether the semantic conventions count a status as a server's error; the others are the caller's.
fn is_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}
