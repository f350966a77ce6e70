//! Streams whose messages were encoded elsewhere.
//!
//! The generated server encodes every message for every caller. A watch event goes to many, so
//! [`WatchRoute`] takes WatchStatus out of the generated server's hands and sends bytes that all
//! watchers share.

use std::{
    convert::Infallible,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes};
use futures::{FutureExt, Stream, future::BoxFuture};
use hangar_client::v1::{
    WatchStatusRequest, WatchStatusResponse, model_service_server::ModelServiceServer,
};
use http_body_util::BodyExt;
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::{Codec, CompressionEncoding, EncodeBuf, Encoder},
    server::{Grpc, NamedService, ServerStreamingService},
};
use tonic_prost::ProstCodec;
use tower::Service;

use super::model_service::ModelApi;

/// ModelService, with WatchStatus sent from shared bytes.
#[derive(Clone, Debug)]
pub struct WatchRoute {
    inner: ModelServiceServer<ModelApi>,
    api: Arc<ModelApi>,
    max_request_bytes: usize,
}

/// The method that is taken out.
const WATCH_STATUS: &str = "/hangar.v1.ModelService/WatchStatus";

/// A stream of encoded messages.
pub(super) type EncodedStream = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// Sends bytes as they are, as messages of the type `T`; decodes requests of the type `U`.
#[derive(Debug)]
struct EncodedCodec<T, U>(PhantomData<(T, U)>);

/// Copies encoded messages into the frame.
#[derive(Debug)]
struct CopyBytes;

struct WatchCall(Arc<ModelApi>);

// === impl WatchRoute ===

impl WatchRoute {
    /// Serves `api`, taking requests of at most `max_request_bytes`.
    pub fn new(api: Arc<ModelApi>, max_request_bytes: usize) -> Self {
        let inner = ModelServiceServer::from_arc(api.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(max_request_bytes);
        Self {
            inner,
            api,
            max_request_bytes,
        }
    }
}

impl NamedService for WatchRoute {
    const NAME: &'static str = <ModelServiceServer<ModelApi> as NamedService>::NAME;
}

impl Service<http::Request<Body>> for WatchRoute {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != WATCH_STATUS {
            return self.inner.call(request);
        }
        let api = self.api.clone();
        let codec = EncodedCodec::<WatchStatusResponse, WatchStatusRequest>(PhantomData);
        let mut grpc = Grpc::new(codec)
            .apply_max_message_size_config(Some(self.max_request_bytes), None)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        async move {
            Ok(grpc
                .server_streaming(
                    WatchCall(api),
                    request.map(|body| Body::new(body.boxed_unsync())),
                )
                .await)
        }
        .boxed()
    }
}

impl ServerStreamingService<WatchStatusRequest> for WatchCall {
    type Response = Bytes;
    type ResponseStream = EncodedStream;
    type Future = BoxFuture<'static, Result<Response<EncodedStream>, Status>>;

    fn call(&mut self, request: Request<WatchStatusRequest>) -> Self::Future {
        let api = self.0.clone();
        async move { Ok(Response::new(api.watch(request.into_inner())?)) }.boxed()
    }
}

// === impl EncodedCodec ===

impl<T, U> Codec for EncodedCodec<T, U>
where
    T: prost::Message + Send + 'static,
    U: prost::Message + Default + Send + 'static,
{
    type Encode = Bytes;
    type Decode = U;
    type Encoder = CopyBytes;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> CopyBytes {
        CopyBytes
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::default().decoder()
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
