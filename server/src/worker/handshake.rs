//! The first words between server and worker: one length-delimited message each way.

use std::io;

use hangar_worker_protocol::{
    PROTOCOL_VERSION,
    frame::{self, FrameError},
    v1::{WorkerReady, worker_ready::Outcome},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{config::WorkerConfig, convert, inspection::Inspection};
use crate::model::Failure;

/// What a worker found.
#[derive(Debug)]
pub struct ReadyMessage {
    /// Version of the engine.
    pub engine_version: String,
    /// Level of processors that the worker was built for, by its name.
    pub kernels: String,
    /// What the model's files say, or why they are no use.
    pub outcome: Result<Inspection, Failure>,
}

/// A worker that did not become ready.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// It ended, or closed its output, before it answered.
    #[error("the worker ended before it was ready")]
    Closed,
    /// Its pipes failed.
    #[error("the pipe to the worker failed")]
    Pipe(#[source] io::Error),
    /// It answered with something that is no ready frame.
    #[error("the worker's first words make no sense; is it a hangar-worker?")]
    Garbage,
    /// It speaks another version of the protocol.
    #[error(
        "the worker speaks version {0} of the protocol and the server version {PROTOCOL_VERSION}; install both from one release"
    )]
    Version(u32),
}

/// Sends `config`.
pub(super) async fn send(
    pipe: &mut (impl AsyncWrite + Unpin),
    config: &WorkerConfig,
) -> Result<(), HandshakeError> {
    frame::send(pipe, &convert::worker_config(config))
        .await
        .map_err(write_error)
}

/// Receives the answer.
pub(super) async fn receive(
    pipe: &mut (impl AsyncRead + Unpin),
) -> Result<ReadyMessage, HandshakeError> {
    let ready: WorkerReady = frame::receive(pipe).await.map_err(read_error)?;
    if ready.protocol_version != PROTOCOL_VERSION {
        return Err(HandshakeError::Version(ready.protocol_version));
    }
    let outcome = match ready.outcome {
        Some(Outcome::Inspection(inspection)) => Ok(convert::inspection(inspection)),
        Some(Outcome::Failure(failure)) => Err(convert::failure(failure)),
        None => return Err(HandshakeError::Garbage),
    };
    Ok(ReadyMessage {
        engine_version: ready.engine_version,
        kernels: ready.kernels,
        outcome,
    })
}

fn read_error(error: FrameError) -> HandshakeError {
    match error {
        FrameError::Empty | FrameError::CutOff => HandshakeError::Closed,
        FrameError::Malformed(_) => HandshakeError::Garbage,
        FrameError::Io(error) => HandshakeError::Pipe(error),
    }
}

fn write_error(error: FrameError) -> HandshakeError {
    match error {
        FrameError::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            HandshakeError::Closed
        }
        error => read_error(error),
    }
}

#[cfg(test)]
mod tests {
    use hangar_worker_protocol::v1::ModelInspection;
    use prost::Message;

    use super::*;

    async fn receive_bytes(bytes: &[u8]) -> Result<ReadyMessage, HandshakeError> {
        receive(&mut &*bytes).await
    }

    fn frame(version: u32, outcome: Option<Outcome>) -> Vec<u8> {
        let ready = WorkerReady {
            protocol_version: version,
            worker_version: String::new(),
            engine_version: "e".to_owned(),
            kernels: "k".to_owned(),
            outcome,
        };
        ready.encode_length_delimited_to_vec()
    }

    #[bounded::test]
    async fn an_inspection_is_received() {
        let outcome = Outcome::Inspection(ModelInspection {
            weight_bytes: 300,
            ..Default::default()
        });
        let ready = receive_bytes(&frame(PROTOCOL_VERSION, Some(outcome)))
            .await
            .expect("a frame");
        assert_eq!(ready.outcome.expect("an inspection").weight_bytes, 300);
    }

    #[bounded::test]
    async fn what_is_no_ready_frame_of_this_version_is_refused() {
        let other = frame(PROTOCOL_VERSION + 1, None);
        assert!(matches!(
            receive_bytes(&other).await,
            Err(HandshakeError::Version(_))
        ));
        assert!(matches!(
            receive_bytes(&frame(PROTOCOL_VERSION, None)).await,
            Err(HandshakeError::Garbage)
        ));
        assert!(matches!(
            receive_bytes(b"").await,
            Err(HandshakeError::Closed)
        ));
        assert!(matches!(
            receive_bytes(b"\x7fshort").await,
            Err(HandshakeError::Closed)
        ));
        assert!(matches!(
            receive_bytes(b"\xff\xff\xff\xff\xff").await,
            Err(HandshakeError::Garbage)
        ));
        assert!(matches!(
            receive_bytes(b"\xff\xff\xff\x7f").await,
            Err(HandshakeError::Garbage)
        ));
        assert!(matches!(
            receive_bytes(b"\x03abc").await,
            Err(HandshakeError::Garbage)
        ));
    }
}
