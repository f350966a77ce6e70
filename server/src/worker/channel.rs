//! The connection to a worker, and how its responses are read off it.

use std::path::PathBuf;

use bytes::{Buf, Bytes};
use hangar_worker_protocol::v1::GenerateRequest;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
    transport::{Channel, Endpoint, Error},
};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// Encodes Generate's requests and leaves its responses as they are.
#[derive(Debug)]
pub(super) struct EncodedResponses;

/// Takes a message out of the frame.
#[derive(Debug)]
pub(super) struct TakeBytes;

type GenerateCodec = ProstCodec<GenerateRequest, GenerateRequest>;

/// Bytes of one stream that may be under way to a client who does not read.
const STREAM_WINDOW: u32 = 1 << 18;

/// Bytes of all streams: so many that slow clients cannot use up what the others need.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// Connects to the worker that listens on `socket`.
///
/// # Errors
///
/// When nobody listens there.
pub(super) async fn connect(socket: PathBuf) -> Result<Channel, Error> {
    // The authority is never looked up: the connector always takes the socket.
    let endpoint = Endpoint::from_static("http://worker.invalid")
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let connector = service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await
}

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
