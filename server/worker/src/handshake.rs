//! The two framed messages of a worker's start: its configuration in, its ready message out.
//!
//! A frame is a varint with the length, then that many bytes of protobuf. The length is checked against
//! [`MAX_FRAME`] before anything is allocated.

use std::io::{Read, Write};

use hangar_client::worker::v1::worker_ready::Outcome;
use hangar_client::worker::v1::{WorkerConfig, WorkerReady};
use prost::Message;

/// Version of the protocol between server and worker that this worker speaks.
pub(crate) const PROTOCOL_VERSION: u32 = 1;

/// Version of the engine that is built in.
pub(crate) const ENGINE_VERSION: &str = "0.8.1";

/// Largest frame in bytes.
const MAX_FRAME: u64 = 1 << 20;

/// Why a frame could not be exchanged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The stream ended before the first byte: nobody sent a configuration.
    #[error("standard input ended before a configuration came")]
    Empty,
    /// The frame is not one.
    #[error("the frame is malformed: {0}")]
    Malformed(String),
    /// Reading or writing failed.
    #[error("the frame could not be exchanged: {0}")]
    Io(#[from] std::io::Error),
}

/// Reads the configuration.
pub(crate) fn read_config(input: &mut impl Read) -> Result<WorkerConfig, HandshakeError> {
    let length = read_varint(input)?;
    if length > MAX_FRAME {
        return Err(HandshakeError::Malformed(format!(
            "it claims {length} bytes, more than {MAX_FRAME}"
        )));
    }
    let mut bytes = Vec::new();
    input.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length {
        return Err(HandshakeError::Malformed("it is cut off".into()));
    }
    WorkerConfig::decode(bytes.as_slice()).map_err(|e| HandshakeError::Malformed(e.to_string()))
}

/// Writes the ready message.
pub(crate) fn write_ready(output: &mut impl Write, outcome: Outcome) -> Result<(), HandshakeError> {
    let ready = WorkerReady {
        protocol_version: PROTOCOL_VERSION,
        worker_version: env!("CARGO_PKG_VERSION").into(),
        engine_version: ENGINE_VERSION.into(),
        outcome: Some(outcome),
    };
    output.write_all(&ready.encode_length_delimited_to_vec())?;
    output.flush()?;
    Ok(())
}

fn read_varint(input: &mut impl Read) -> Result<u64, HandshakeError> {
    let mut value = 0u64;
    for index in 0..10 {
        let mut byte = [0];
        match input.read_exact(&mut byte) {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof && index == 0 => {
                return Err(HandshakeError::Empty);
            }
            other => other?,
        }
        value |= u64::from(byte[0] & 0x7f) << (7 * index).min(63);
        if byte[0] & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(HandshakeError::Malformed("its length does not end".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_survives_the_frame() {
        let config = WorkerConfig {
            protocol_version: PROTOCOL_VERSION,
            model_id: "m".repeat(300),
            ..WorkerConfig::default()
        };
        let bytes = config.encode_length_delimited_to_vec();
        let read = read_config(&mut bytes.as_slice()).expect("a config");
        assert_eq!(read, config);
    }

    #[test]
    fn a_huge_length_is_refused_before_it_is_allocated() {
        let bytes = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(matches!(
            read_config(&mut bytes.as_slice()),
            Err(HandshakeError::Malformed(_))
        ));
    }

    #[test]
    fn an_endless_length_and_a_cut_frame_are_refused() {
        assert!(matches!(
            read_config(&mut [0xffu8; 20].as_slice()),
            Err(HandshakeError::Malformed(_))
        ));
        assert!(matches!(
            read_config(&mut [5u8, 1, 2].as_slice()),
            Err(HandshakeError::Malformed(_))
        ));
    }

    #[test]
    fn no_input_is_told_apart() {
        assert!(matches!(
            read_config(&mut [].as_slice()),
            Err(HandshakeError::Empty)
        ));
    }
}
