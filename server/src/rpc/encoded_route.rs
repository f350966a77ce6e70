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
        GenerateRequest, WatchStatusRequest,
        inference_service_server::{self, InferenceServiceServer},
        model_service_server::{self, ModelServiceServer},
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
    path: Arc<str>,
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

/// The methods that routes serve.
const WATCH_STATUS: &str = "WatchStatus";
const GENERATE: &str = "Generate";

fn path_of(service: &str, method: &str) -> Arc<str> {
    format!("/{service}/{method}").into()
}

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
            path: path_of(model_service_server::SERVICE_NAME, WATCH_STATUS),
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
            path: path_of(inference_service_server::SERVICE_NAME, GENERATE),
            method: Arc::new(method),
            max_request_bytes,
        }
    }
}

impl<S: Clone, R> Clone for EncodedRoute<S, R> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            path: self.path.clone(),
            method: self.method.clone(),
            max_request_bytes: self.max_request_bytes,
        }
    }
}

impl<S, R> fmt::Debug for EncodedRoute<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncodedRoute")
            .field("path", &self.path)
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
        if request.uri().path() != &*self.path {
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

#[cfg(test)]
mod tests {
    use prost_types::FileDescriptorSet;

    use super::*;

    #[bounded::test]
    fn routes_serve_methods_that_there_are() {
        let set = FileDescriptorSet::decode(hangar_client::v1::FILE_DESCRIPTOR_SET);
        let files = set.expect("a descriptor set").file;
        let paths: Vec<_> = files
            .iter()
            .flat_map(|file| file.service.iter().map(move |service| (file, service)))
            .flat_map(|(file, service)| {
                let name = format!("{}.{}", file.package(), service.name());
                let methods = service.method.iter();
                methods.map(move |method| path_of(&name, method.name()))
            })
            .collect();
        for path in [
            path_of(model_service_server::SERVICE_NAME, WATCH_STATUS),
            path_of(inference_service_server::SERVICE_NAME, GENERATE),
        ] {
            assert!(paths.contains(&path), "{path}");
        }
    }
}
