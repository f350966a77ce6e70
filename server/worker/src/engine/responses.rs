//! The two ends of a stream of responses to one request.

use hangar_worker_protocol::v1::GenerateResponse;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Chunks that wait for the transport before they are put together.
const WAITING_CHUNKS: usize = 8;

/// What a caller of Generate gets.
pub(crate) type Responses = ReceiverStream<Result<GenerateResponse, Status>>;

/// The caller's end.
pub(super) type Caller = mpsc::Sender<Result<GenerateResponse, Status>>;

/// A stream, and where its responses go in.
pub(super) fn stream() -> (Caller, Responses) {
    let (caller, stream) = mpsc::channel(WAITING_CHUNKS);
    (caller, ReceiverStream::new(stream))
}
