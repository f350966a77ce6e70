//! Server reflection: lets tools describe and call every service without a proto file.
//!
//! Both versions of the protocol serve the same files: `hangar.v1` and the Open Inference Protocol with the comments
//! of their protos, health, reflection itself, and the error details of `google.rpc`, which tools need to show error
//! details in words. A port describes what it offers and nothing else.

mod open_stream;

use std::{
    convert::Infallible,
    future::ready,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use futures::{FutureExt, future::BoxFuture};
use open_stream::Requests;
use tokio::sync::Semaphore;
use tonic::{Status, body::Body, server::NamedService};
use tonic_reflection::server::{Builder, Error, v1, v1alpha};
use tower::Service;

use super::{error::ApiError, request_memory::CallMemory};

/// Whose services are described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReflectedPort {
    /// The main port: everything.
    Main,
    /// The ops port: health.
    Ops,
}

/// Reflection that takes up memory only once somebody has asked for it.
#[derive(Debug)]
pub struct Reflection<S> {
    port: ReflectedPort,
    build: fn(ReflectedPort) -> Result<S, Error>,
    built: Arc<OnceLock<Result<S, String>>>,
    streams: Arc<Semaphore>,
}

/// Streams that may be open at the same time, of each port and version: tools open one for a short while.
const MAX_STREAMS: usize = 64;

/// Largest request in bytes: the name of a symbol or a file.
const MAX_REQUEST_BYTES: usize = 4096;

/// Reflection as `grpc.reflection.v1.ServerReflection`.
pub fn v1(
    port: ReflectedPort,
) -> Reflection<v1::ServerReflectionServer<impl v1::ServerReflection>> {
    Reflection::new(port, |port| {
        let server = builder(port).build_v1()?;
        Ok(server.max_decoding_message_size(MAX_REQUEST_BYTES))
    })
}

/// Reflection as `grpc.reflection.v1alpha.ServerReflection`, for older tools.
pub fn v1alpha(
    port: ReflectedPort,
) -> Reflection<v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>> {
    Reflection::new(port, |port| {
        let server = builder(port).build_v1alpha()?;
        Ok(server.max_decoding_message_size(MAX_REQUEST_BYTES))
    })
}

/// A file that is in more than one set is registered once: the builder keeps the first of a name.
fn builder(port: ReflectedPort) -> Builder<'static> {
    let builder = Builder::configure().include_reflection_service(false);
    let builder = match port {
        ReflectedPort::Main => builder
            .register_encoded_file_descriptor_set(hangar_client::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(hangar_client::inference::FILE_DESCRIPTOR_SET),
        ReflectedPort::Ops => builder,
    };
    builder
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
}

impl<S> Reflection<S> {
    fn new(port: ReflectedPort, build: fn(ReflectedPort) -> Result<S, Error>) -> Self {
        Self {
            port,
            build,
            built: Arc::default(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        }
    }
}

impl<S> Clone for Reflection<S> {
    fn clone(&self) -> Self {
        Self {
            port: self.port,
            build: self.build,
            built: Arc::clone(&self.built),
            streams: Arc::clone(&self.streams),
        }
    }
}

impl<S: NamedService> NamedService for Reflection<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<http::Request<B>> for Reflection<S>
where
    S: Service<http::Request<Requests<B>>, Response = http::Response<Body>, Error = Infallible>,
    S: Clone,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    /// Always ready, as the services of tonic are.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let built = self
            .built
            .get_or_init(|| (self.build)(self.port).map_err(|error| error.to_string()));
        let refused = |error: ApiError| {
            let status = Status::from(error);
            ready(Ok(status.into_http())).boxed()
        };
        let (head, requests) = request.into_parts();
        if let Some(call) = head.extensions.get::<Arc<CallMemory>>() {
            call.expect_many();
        }
        match (built, open_stream::open(&self.streams, requests)) {
            (Ok(server), Some((requests, open))) => {
                let request = http::Request::from_parts(head, requests);
                let answer = server.clone().call(request);
                async move { Ok(answer.await?.map(|body| Body::new(open.responses(body)))) }.boxed()
            }
            (Ok(_), None) => refused(ApiError::Limit {
                what: "reflection streams",
                limit: MAX_STREAMS,
            }),
            // A built-in descriptor set is malformed, which a test rules out.
            (Err(error), _) => refused(ApiError::Internal(error.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, stream};
    use prost::Message;
    use prost_types::FileDescriptorProto;
    use tonic::Code;
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };

    use super::*;

    async fn ask(port: ReflectedPort, request: MessageRequest) -> MessageResponse {
        let mut client = ServerReflectionClient::new(v1(port));
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(request),
        };
        let requests = futures::stream::iter([request]);
        let responses = client.server_reflection_info(requests).await.unwrap();
        let response = responses.into_inner().next().await.unwrap().unwrap();
        response.message_response.unwrap()
    }

    async fn services(port: ReflectedPort) -> Vec<String> {
        let request = MessageRequest::ListServices(String::new());
        let MessageResponse::ListServicesResponse(list) = ask(port, request).await else {
            panic!("no list");
        };
        let mut names: Vec<_> = list.service.into_iter().map(|s| s.name).collect();
        names.sort();
        names
    }

    #[bounded::test]
    async fn streams_are_few_and_end_with_their_responses() {
        let mut client = ServerReflectionClient::new(v1(ReflectedPort::Ops));
        // Their requests never end.
        let mut open = async || client.server_reflection_info(stream::pending()).await;
        let mut streams = Vec::new();
        for _ in 0..MAX_STREAMS {
            streams.push(open().await.expect("a stream"));
        }
        let refused = open().await.expect_err("one more");
        assert_eq!(refused.code(), Code::ResourceExhausted);
        streams.pop();
        while open().await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    #[bounded::test]
    async fn every_service_is_listed_once() {
        assert_eq!(
            services(ReflectedPort::Main).await,
            [
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection",
                "hangar.v1.CatalogService",
                "hangar.v1.InferenceService",
                "hangar.v1.ModelService",
                "hangar.v1.SessionService",
                "inference.GRPCInferenceService",
            ]
        );
        assert_eq!(
            services(ReflectedPort::Ops).await,
            [
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection",
            ]
        );
    }

    #[bounded::test]
    async fn describes_every_service_and_error_detail_with_all_imports() {
        for symbol in [
            "hangar.v1.ModelService",
            "hangar.v1.InferenceService",
            "inference.GRPCInferenceService",
            "grpc.health.v1.Health",
            "google.rpc.Status",
            "google.rpc.ErrorInfo",
            "google.rpc.RetryInfo",
            "google.rpc.BadRequest",
            "google.rpc.QuotaFailure",
            "google.rpc.PreconditionFailure",
            "google.rpc.ResourceInfo",
        ] {
            let mut wanted = vec![MessageRequest::FileContainingSymbol(symbol.to_owned())];
            while let Some(request) = wanted.pop() {
                let shown = format!("{request:?}");
                let MessageResponse::FileDescriptorResponse(files) =
                    ask(ReflectedPort::Main, request).await
                else {
                    panic!("{symbol}: {shown} is not described");
                };
                for bytes in files.file_descriptor_proto {
                    let file = FileDescriptorProto::decode(bytes.as_slice()).unwrap();
                    wanted.extend(
                        file.dependency
                            .into_iter()
                            .map(MessageRequest::FileByFilename),
                    );
                }
            }
        }
    }

    #[bounded::test]
    fn both_versions_can_be_built_for_both_ports() {
        for port in [ReflectedPort::Main, ReflectedPort::Ops] {
            assert!(builder(port).build_v1().is_ok());
            assert!(builder(port).build_v1alpha().is_ok());
        }
    }
}
