//! The connection to a worker.

use std::{
    ops::{Deref, DerefMut},
    path::PathBuf,
};

use bytes::{Buf, Bytes};
use hangar_worker_protocol::v1::{GenerateRequest, worker_service_client::WorkerServiceClient};
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    GrpcMethod, Request, Response, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder},
    transport::{Channel, Endpoint, Error},
};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// Calls to a worker: those of the stubs, and Generate, whose responses stay encoded. Cheap to clone: all
/// clones share one connection.
#[derive(Clone, Debug)]
pub struct Client {
    stubs: WorkerServiceClient<Channel>,
    grpc: Grpc<Channel>,
}

/// Encodes Generate's requests and leaves its responses as they are.
#[derive(Debug)]
struct EncodedResponses;

/// Takes a message out of the frame.
#[derive(Debug)]
struct TakeBytes;

type GenerateCodec = ProstCodec<GenerateRequest, GenerateRequest>;

/// Bytes of one stream that may be under way to a client who does not read.
const STREAM_WINDOW: u32 = 1 << 18;

/// Bytes of all streams: so many that slow clients cannot use up what the others need.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// Longest message in bytes: an embedding of a long batch stays below it.
const MAX_MESSAGE: usize = 64 << 20;

/// Connects to the worker that listens on `socket`.
///
/// # Errors
///
/// When nobody listens there.
pub async fn connect(socket: PathBuf) -> Result<Client, Error> {
    // The authority is never looked up: the connector always takes the socket.
    let endpoint = Endpoint::from_static("http://worker.invalid")
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let connector = service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel = endpoint.connect_with_connector(connector).await?;
    Ok(Client {
        stubs: WorkerServiceClient::new(channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE),
        grpc: Grpc::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE),
    })
}

// === impl Client ===

impl Client {
    /// Generates text. The responses are encoded `GenerateResponse`s, of the private and of the public API:
    /// both have the same fields. Nothing has looked into them.
    ///
    /// # Errors
    ///
    /// The worker's, or UNAVAILABLE without a connection.
    pub async fn generate(
        &mut self,
        mut request: Request<GenerateRequest>,
    ) -> Result<Response<Streaming<Bytes>>, Status> {
        let ready = self.grpc.ready().await;
        ready.map_err(|error| Status::from_error(error.into()))?;
        let method = GrpcMethod::new("hangar.worker.v1.WorkerService", "Generate");
        request.extensions_mut().insert(method);
        let path = PathAndQuery::from_static("/hangar.worker.v1.WorkerService/Generate");
        let call = self.grpc.server_streaming(request, path, EncodedResponses);
        call.await
    }
}

impl Deref for Client {
    type Target = WorkerServiceClient<Channel>;

    fn deref(&self) -> &Self::Target {
        &self.stubs
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.stubs
    }
}

// === impl EncodedResponses ===

impl Codec for EncodedResponses {
    type Encode = GenerateRequest;
    type Decode = Bytes;
    type Encoder = <GenerateCodec as Codec>::Encoder;
    type Decoder = TakeBytes;

    fn encoder(&mut self) -> Self::Encoder {
        GenerateCodec::default().encoder()
    }

    fn decoder(&mut self) -> TakeBytes {
        TakeBytes
    }
}

impl Decoder for TakeBytes {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, frame: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(frame.copy_to_bytes(frame.remaining())))
    }
}
