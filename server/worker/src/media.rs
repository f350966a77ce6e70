//! Images of requests: decoded within limits, on threads that may block.
//!
//! Whatever the bytes are, decoding takes at most [`DECODING_BYTES`] of memory and ends with an image or
//! with an error that a caller can act upon.

mod image_bytes;

pub(crate) use image_bytes::{DECODING_BYTES, EncodedImage};

/// Most images that a request may have. The server refuses more.
pub(crate) const MAX_IMAGES: usize = 8;
