//! The connection to a worker.

use std::path::PathBuf;

use hangar_client::worker::v1::worker_service_client::WorkerServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Error};
use tower::service_fn;

/// Calls to a worker. Cheap to clone: all clones share one connection.
pub type Client = WorkerServiceClient<Channel>;

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
    Ok(Client::new(channel)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE))
}
