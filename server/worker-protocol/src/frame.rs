//! Frames of the handshake: a varint with the length, then that many bytes of protobuf.
//!
//! The length is held against [`MAX_FRAME`] before anything is allocated, and nothing behind the frame is read.

use std::io::{self, ErrorKind, Read, Write};

use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest message in bytes.
pub const MAX_FRAME: usize = 1 << 20;

/// Why no message was exchanged.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream ended before the first byte: the other side has sent nothing.
    #[error("the stream ended before a message came")]
    Empty,
    /// The stream ended within the message.
    #[error("the message is cut off")]
    CutOff,
    /// The message is none.
    #[error("the message is malformed: {0}")]
    Malformed(String),
    /// Reading or writing failed.
    #[error("the message could not be exchanged: {0}")]
    Io(#[source] io::Error),
}

/// Reads a message. Blocks.
///
/// # Errors
///
/// When the stream ends or fails, or holds something else.
pub fn read<M: Message + Default>(input: &mut impl Read) -> Result<M, FrameError> {
    let mut prefix = Prefix::default();
    let length = loop {
        let mut byte = [0];
        input
            .read_exact(&mut byte)
            .map_err(|error| prefix.ended(error))?;
        if let Some(length) = prefix.push(byte[0])? {
            break length;
        }
    };
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes).map_err(cut_off)?;
    decode(&bytes)
}

/// Writes `message`. Blocks.
///
/// # Errors
///
/// When the stream fails.
pub fn write(output: &mut impl Write, message: &impl Message) -> Result<(), FrameError> {
    let bytes = message.encode_length_delimited_to_vec();
    let written = output.write_all(&bytes).and_then(|()| output.flush());
    written.map_err(FrameError::Io)
}

/// Reads a message as [`read()`] does, without blocking.
///
/// # Errors
///
/// When the stream ends or fails, or holds something else.
pub async fn receive<M: Message + Default>(
    input: &mut (impl AsyncRead + Unpin),
) -> Result<M, FrameError> {
    let mut prefix = Prefix::default();
    let length = loop {
        let byte = input.read_u8().await;
        let byte = byte.map_err(|error| prefix.ended(error))?;
        if let Some(length) = prefix.push(byte)? {
            break length;
        }
    };
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes).await.map_err(cut_off)?;
    decode(&bytes)
}

/// Writes `message` as [`write()`] does, without blocking.
///
/// # Errors
///
/// When the stream fails.
pub async fn send(
    output: &mut (impl AsyncWrite + Unpin),
    message: &impl Message,
) -> Result<(), FrameError> {
    let bytes = message.encode_length_delimited_to_vec();
    output.write_all(&bytes).await.map_err(FrameError::Io)?;
    output.flush().await.map_err(FrameError::Io)
}

/// The length before a message, as far as it has come.
#[derive(Debug, Default)]
struct Prefix {
    value: usize,
    bytes: u32,
}

impl Prefix {
    /// Takes the next byte, and gives the length with its last one.
    fn push(&mut self, byte: u8) -> Result<Option<usize>, FrameError> {
        self.value |= usize::from(byte & 0x7f) << (7 * self.bytes);
        self.bytes += 1;
        if self.value > MAX_FRAME {
            let too_long = format!("it claims to have more than {MAX_FRAME} bytes");
            return Err(FrameError::Malformed(too_long));
        }
        match byte & 0x80 {
            0 => Ok(Some(self.value)),
            _ if self.bytes == 4 => Err(FrameError::Malformed("its length does not end".into())),
            _ => Ok(None),
        }
    }

    /// What it means that no further byte came.
    fn ended(&self, error: io::Error) -> FrameError {
        match error.kind() {
            ErrorKind::UnexpectedEof if self.bytes == 0 => FrameError::Empty,
            _ => cut_off(error),
        }
    }
}

fn cut_off(error: io::Error) -> FrameError {
    match error.kind() {
        ErrorKind::UnexpectedEof => FrameError::CutOff,
        _ => FrameError::Io(error),
    }
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, FrameError> {
    M::decode(bytes).map_err(|error| FrameError::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests;
