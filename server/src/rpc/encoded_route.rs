//! Streams whose messages were encoded elsewhere.
//!
//! The generated server encodes every message for every caller. A watch event goes to many, and a piece of
//! an answer comes encoded from its worker, so [`EncodedRoute`] takes such a method out of the generated
//! server's hands and sends bytes as they are.

use std::{
    convert::Infallible,
    fmt,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes};
use futures::{FutureExt, future::BoxFuture};
use hangar_client::{
    server_codec::BoundedDecoder,
    v1::{
        GenerateRequest, WatchStatusRequest, inference_service,
        inference_service_server::InferenceServiceServer, model_service,
        model_service_server::ModelServiceServer,
    },
};
use http_body_util::BodyExt;
use prost::{Message, Name};
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::{Codec, CompressionEncoding, EncodeBuf, Encoder},
    server::{Grpc, NamedService, ServerStreamingService},
};
use tower::Service;

use super::{
    encoded::EncodedStream, inference_service::InferenceApi, model_service::ModelApi,
    request_memory::CallMemory,
};

/// A service, one method of which is answered with encoded messages.
pub struct EncodedRoute<S, R> {
    inner: S,
    /// Full name of that method.
    name: &'static str,
    method: Arc<dyn Method<R>>,
    max_request_bytes: usize,
}

/// ModelService, with WatchStatus sent from bytes that all watchers share.
pub type WatchRoute = EncodedRoute<ModelServiceServer<ModelApi>, WatchStatusRequest>;

/// InferenceService, with Generate sent as the workers have encoded it.
pub type GenerateRoute = EncodedRoute<InferenceServiceServer<InferenceApi>, GenerateRequest>;

/// The response to a request.
pub(super) type RouteResponse = BoxFuture<'static, Result<Response<EncodedStream>, Status>>;

/// A method that answers with encoded messages.
trait Method<R>: Fn(Request<R>) -> RouteResponse + Send + Sync {}

/// Sends bytes as they are; decodes requests of the type `R`.
#[derive(Debug)]
struct EncodedCodec<R>(PhantomData<R>);

/// Copies encoded messages into the frame.
#[derive(Debug)]
struct CopyBytes;

struct MethodCall<R>(Arc<dyn Method<R>>);

impl WatchRoute {
    /// Serves `api`, taking requests of at most `max_request_bytes`, and of `max_watch_bytes` for a watch.
    pub fn watch(api: Arc<ModelApi>, max_request_bytes: usize, max_watch_bytes: usize) -> Self {
        let inner = ModelServiceServer::from_arc(api.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(max_request_bytes);
        let method = move |request: Request<WatchStatusRequest>| {
            let api = api.clone();
            let memory = request.extensions().get::<Arc<CallMemory>>().cloned();
            async move {
                let responses = api.watch(request.into_inner())?;
                // It may last for long, and its request is gone.
                if let Some(memory) = memory {
                    memory.drop_request();
                }
                Ok(Response::new(responses))
            }
            .boxed()
        };
        Self {
            inner,
            name: model_service::WATCH_STATUS,
            method: Arc::new(method),
            max_request_bytes: max_watch_bytes,
        }
    }
}

impl GenerateRoute {
    /// Serves `api`, taking requests of at most `max_request_bytes`.
    pub fn generate(api: InferenceApi, max_request_bytes: usize) -> Self {
        let inner = InferenceServiceServer::new(api.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(max_request_bytes);
        let method = move |request: Request<GenerateRequest>| {
            let api = api.clone();
            async move {
                let stream: EncodedStream = Box::pin(api.begin(request).await?);
                Ok(Response::new(stream))
            }
            .boxed()
        };
        Self {
            inner,
            name: inference_service::GENERATE,
            method: Arc::new(method),
            max_request_bytes,
        }
    }
}

impl<S: Clone, R> Clone for EncodedRoute<S, R> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            name: self.name,
            method: self.method.clone(),
            max_request_bytes: self.max_request_bytes,
        }
    }
}

impl<S, R> fmt::Debug for EncodedRoute<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncodedRoute")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<S: NamedService, R> NamedService for EncodedRoute<S, R> {
    const NAME: &'static str = S::NAME;
}

impl<S, R> Service<http::Request<Body>> for EncodedRoute<S, R>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
    R: Message + Default + Name + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path().strip_prefix('/') != Some(self.name) {
            return self.inner.call(request).boxed();
        }
        let method = MethodCall(self.method.clone());
        let mut grpc = Grpc::new(EncodedCodec::<R>(PhantomData))
            .apply_max_message_size_config(Some(self.max_request_bytes), None)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        async move {
            let request = request.map(|body| Body::new(body.boxed_unsync()));
            Ok(grpc.server_streaming(method, request).await)
        }
        .boxed()
    }
}

impl<R, F> Method<R> for F where F: Fn(Request<R>) -> RouteResponse + Send + Sync {}

impl<R> ServerStreamingService<R> for MethodCall<R> {
    type Response = Bytes;
    type ResponseStream = EncodedStream;
    type Future = RouteResponse;

    fn call(&mut self, request: Request<R>) -> Self::Future {
        (self.0)(request)
    }
}

impl<R: Message + Default + Name + 'static> Codec for EncodedCodec<R> {
    type Encode = Bytes;
    type Decode = R;
    type Encoder = CopyBytes;
    type Decoder = BoundedDecoder<R>;

    fn encoder(&mut self) -> CopyBytes {
        CopyBytes
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder::default()
    }
}

impl Encoder for CopyBytes {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}
