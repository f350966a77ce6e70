//! Messages that are sent as they were encoded.

use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;
use tonic::Status;

/// A stream of encoded messages.
pub(super) type EncodedStream = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;
