//! What the server has to know of a response that a worker has encoded, read off its bytes.
//!
//! Invariant: what passes can be decoded by any client and is one event: a chunk, of which nothing is
//! copied, or the end, of which there is one an answer.

use hangar_client::v1::{GenerateDone, TokenLogprob};
use prost::{Message, decode_length_delimiter};

/// A response.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Peek {
    /// A chunk with so many tokens. It may hold nothing but text that was held back.
    Chunk { tokens: u32 },
    /// The end.
    Done(GenerateDone),
}

/// A worker sent what is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a worker sent something that is no response: {0}")]
pub(super) struct Malformed(&'static str);

/// Fields of a response.
const CHUNK: usize = 1;
const DONE: usize = 2;

/// Fields of a chunk.
const TEXT: usize = 1;
const TOKEN_IDS: usize = 2;
const LOGPROBS: usize = 3;
const REASONING: usize = 4;
const INDEX: usize = 5;
const PROMPT_LOGPROBS: usize = 6;

/// Types of fields on the wire.
const VARINT: usize = 0;
const FIXED64: usize = 1;
const LENGTH_DELIMITED: usize = 2;
const FIXED32: usize = 5;

/// Looks into an encoded `GenerateResponse`.
pub(super) fn peek(mut response: &[u8]) -> Result<Peek, Malformed> {
    let (number, event) = field(&mut response)?;
    let event = event.bytes();
    if !response.is_empty() {
        return Err(Malformed("more follows the event"));
    }
    match (number, event) {
        (CHUNK, Some(chunk)) => Ok(Peek::Chunk {
            tokens: tokens(chunk)?,
        }),
        (DONE, Some(done)) => GenerateDone::decode(done)
            .map(Peek::Done)
            .map_err(|_| Malformed("the end cannot be decoded")),
        _ => Err(Malformed("it is no event")),
    }
}

/// Tokens of a chunk, all of which is checked.
fn tokens(mut chunk: &[u8]) -> Result<u32, Malformed> {
    let mut tokens = 0;
    while !chunk.is_empty() {
        match field(&mut chunk)? {
            (TEXT | REASONING, WireValue::Bytes(text)) => {
                std::str::from_utf8(text).map_err(|_| Malformed("the text is not UTF-8"))?;
            }
            (TOKEN_IDS, WireValue::Bytes(mut ids)) => {
                while !ids.is_empty() {
                    varint(&mut ids)?;
                    tokens += 1;
                }
            }
            (LOGPROBS | PROMPT_LOGPROBS, WireValue::Bytes(logprob)) => {
                TokenLogprob::decode(logprob)
                    .map_err(|_| Malformed("a log probability cannot be decoded"))?;
            }
            (INDEX, WireValue::Number) => {}
            (TEXT | TOKEN_IDS | LOGPROBS | REASONING | INDEX | PROMPT_LOGPROBS, _) => {
                return Err(Malformed("a field is of another type"));
            }
            // Of a later version.
            _ => {}
        }
    }
    Ok(tokens)
}

/// The value of a field, as it is encoded.
#[derive(Clone, Copy)]
enum WireValue<'a> {
    Number,
    Bytes(&'a [u8]),
    Other,
}

impl<'a> WireValue<'a> {
    fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Number | Self::Other => None,
        }
    }
}

/// Takes a field: its number and its value.
fn field<'a>(bytes: &mut &'a [u8]) -> Result<(usize, WireValue<'a>), Malformed> {
    let key = varint(bytes)?;
    let number = key >> 3;
    if number == 0 || u32::try_from(key).is_err() {
        return Err(Malformed("a field has no number"));
    }
    let length = match key & 7 {
        VARINT => {
            varint(bytes)?;
            return Ok((number, WireValue::Number));
        }
        FIXED64 => 8,
        FIXED32 => 4,
        LENGTH_DELIMITED => varint(bytes)?,
        _ => return Err(Malformed("a field is of no type")),
    };
    let (value, rest) = bytes
        .split_at_checked(length)
        .ok_or(Malformed("a field is longer than what holds it"))?;
    *bytes = rest;
    let value = match key & 7 {
        LENGTH_DELIMITED => WireValue::Bytes(value),
        _ => WireValue::Other,
    };
    Ok((number, value))
}

/// Takes a number.
fn varint(bytes: &mut &[u8]) -> Result<usize, Malformed> {
    decode_length_delimiter(bytes).map_err(|_| Malformed("it breaks off in a number"))
}

#[cfg(test)]
mod tests {
    use hangar_client::v1::{
        FinishReason, GenerateChunk, GenerateResponse, TopLogprob, Usage, generate_response::Event,
    };
    use proptest::prelude::*;

    use super::*;

    fn chunk(text: &str, token_ids: Vec<u32>) -> GenerateChunk {
        let logprob = |token_id| TokenLogprob {
            token_id,
            text: text.to_owned(),
            logprob: -0.5,
            top: vec![TopLogprob::default()],
        };
        GenerateChunk {
            text: text.to_owned(),
            logprobs: token_ids.iter().copied().map(logprob).collect(),
            prompt_logprobs: token_ids.iter().copied().map(logprob).collect(),
            reasoning: text.to_owned(),
            index: 3,
            token_ids,
        }
    }

    fn encoded(event: Event) -> Vec<u8> {
        GenerateResponse { event: Some(event) }.encode_to_vec()
    }

    #[bounded::test]
    fn the_last_event_is_read_whole() {
        let done = GenerateDone {
            finish_reason: FinishReason::Length.into(),
            usage: Some(Usage {
                prompt_tokens: 3,
                completion_tokens: 500,
                reasoning_tokens: 0,
            }),
            stop: "x".to_owned(),
            ..GenerateDone::default()
        };
        let bytes = encoded(Event::Done(done.clone()));
        assert_eq!(peek(&bytes), Ok(Peek::Done(done)));
    }

    #[bounded::test]
    fn fields_of_a_later_version_are_passed_over() {
        // A chunk with a number in field 9, a fixed one in 10 and 11, and bytes in 12.
        let mut body = chunk("a", vec![7, 300]).encode_to_vec();
        body.extend([0x48, 0x96, 0x01, 0x55, 1, 2, 3, 4]);
        body.extend([0x59, 1, 2, 3, 4, 5, 6, 7, 8, 0x62, 1, 0xff]);
        let mut bytes = vec![0x0a, u8::try_from(body.len()).expect("a short chunk")];
        bytes.extend(body);
        assert_eq!(peek(&bytes), Ok(Peek::Chunk { tokens: 2 }));
        assert!(GenerateResponse::decode(&bytes[..]).is_ok());
    }

    #[bounded::test]
    fn what_is_no_response_is_an_error() {
        let whole = encoded(Event::Chunk(chunk("ab", vec![1])));
        for (what, bytes) in [
            ("nothing", Vec::new()),
            ("half of one", whole[..whole.len() - 1].to_vec()),
            ("two", [whole.clone(), whole.clone()].concat()),
            ("another field", vec![0x1a, 0]),
            ("an event that is a number", vec![0x08, 1]),
            ("text that is not UTF-8", vec![0x0a, 3, 0x0a, 1, 0xff]),
            ("text that is a number", vec![0x0a, 2, 0x08, 1]),
            ("half of a token", vec![0x0a, 3, 0x12, 1, 0x80]),
            ("a log probability of nothing", vec![0x0a, 3, 0x1a, 1, 0xff]),
            ("a length beyond the end", vec![0x0a, 0xff, 0xff, 0x7f]),
            ("an end that is none", vec![0x12, 1, 0xff]),
            ("a group", vec![0x0b, 0x0c]),
            ("a field without a number", vec![0x0a, 2, 0x00, 1]),
            ("a number without an end", vec![0xff; 16]),
        ] {
            assert!(peek(&bytes).is_err(), "{what}");
        }
    }

    proptest! {
        #[bounded::test]
        fn tokens_are_those_of_the_chunk(text: String, ids in prop::collection::vec(any::<u32>(), 0..50)) {
            let tokens = u32::try_from(ids.len()).expect("few");
            let bytes = encoded(Event::Chunk(chunk(&text, ids)));
            prop_assert_eq!(peek(&bytes), Ok(Peek::Chunk { tokens }));
        }

        #[bounded::test]
        fn what_passes_can_be_decoded(
            text: String, ids in prop::collection::vec(any::<u32>(), 0..5), at: usize, byte: u8
        ) {
            let mut bytes = encoded(Event::Chunk(chunk(&text, ids)));
            let at = at % bytes.len();
            bytes[at] = byte;
            if peek(&bytes).is_ok() {
                let decoded = GenerateResponse::decode(&bytes[..]);
                prop_assert!(decoded.is_ok_and(|response| response.event.is_some()));
            }
        }
    }
}
