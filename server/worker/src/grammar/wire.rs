//! Messages between this program and its processes for grammars.
//!
//! A frame is the length in four bytes, little end first, then that many bytes of protobuf.

use std::io::{Error, ErrorKind, Read, Result, Write};

use prost::Message;

/// Largest frame in bytes: the tokens of a large vocabulary.
const MAX_FRAME: usize = 64 << 20;

/// What a process is asked. Exactly one field is set.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GrammarCall {
    /// First of all: the tokens.
    #[prost(message, optional, tag = "1")]
    pub(super) table: Option<TokenTable>,
    /// A new grammar.
    #[prost(message, optional, tag = "2")]
    pub(super) begin: Option<NewGrammar>,
    /// The token that the answer went on with.
    #[prost(uint32, optional, tag = "3")]
    pub(super) next: Option<u32>,
}

/// The model's tokens.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TokenTable {
    /// Bytes of each.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) tokens: Vec<Vec<u8>>,
}

/// A new grammar.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NewGrammar {
    /// Its notation.
    #[prost(enumeration = "GrammarKind", tag = "1")]
    pub(super) kind: i32,
    /// The grammar.
    #[prost(string, tag = "2")]
    pub(super) text: String,
}

/// Notation of a grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum GrammarKind {
    /// A JSON schema.
    JsonSchema = 0,
    /// A regular expression.
    Regex = 1,
    /// Lark.
    Lark = 2,
}

/// What a process says of a new grammar, and after each token.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GrammarReply {
    /// Tokens that may come next, one bit each.
    #[prost(fixed32, repeated, tag = "1")]
    pub(super) mask: Vec<u32>,
    /// Whether the answer may end here.
    #[prost(bool, tag = "2")]
    pub(super) accepting: bool,
    /// Whether the answer has to end here.
    #[prost(bool, tag = "3")]
    pub(super) complete: bool,
    /// Why there is no next token.
    #[prost(string, tag = "4")]
    pub(super) failed: String,
}

impl GrammarCall {
    /// The tokens.
    pub(super) fn table(table: TokenTable) -> Self {
        Self {
            table: Some(table),
            ..Self::default()
        }
    }

    /// A new grammar.
    pub(super) fn begin(begin: NewGrammar) -> Self {
        Self {
            begin: Some(begin),
            ..Self::default()
        }
    }

    /// A token.
    pub(super) fn after(token: u32) -> Self {
        Self {
            next: Some(token),
            ..Self::default()
        }
    }
}

/// Writes a frame.
pub(super) fn write(output: &mut impl Write, message: &impl Message) -> Result<()> {
    let length = message.encoded_len();
    if length > MAX_FRAME {
        return Err(Error::new(ErrorKind::InvalidData, "the frame is too long"));
    }
    let mut frame = Vec::with_capacity(length + 4);
    frame.extend_from_slice(&(length as u32).to_le_bytes());
    message
        .encode(&mut frame)
        .map_err(|e| Error::new(ErrorKind::InvalidData, e))?;
    output.write_all(&frame)?;
    output.flush()
}

/// Reads a frame.
pub(super) fn read<T: Message + Default>(input: &mut impl Read) -> Result<T> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(Error::new(ErrorKind::InvalidData, "the frame is too long"));
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    T::decode(bytes.as_slice()).map_err(|e| Error::new(ErrorKind::InvalidData, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn a_frame_comes_out_as_it_went_in() {
        let call = GrammarCall::begin(NewGrammar {
            kind: GrammarKind::Lark.into(),
            text: "start: \"a\"".into(),
        });
        let mut frame = Vec::new();
        write(&mut frame, &call).expect("a frame");
        assert_eq!(
            read::<GrammarCall>(&mut frame.as_slice()).expect("a frame"),
            call
        );
    }

    #[bounded::test]
    fn a_frame_that_is_cut_off_or_too_long_is_an_error() {
        let mut frame = Vec::new();
        write(&mut frame, &GrammarCall::after(7)).expect("a frame");
        frame.pop();
        assert!(read::<GrammarCall>(&mut frame.as_slice()).is_err());
        assert!(read::<GrammarCall>(&mut [0xffu8; 8].as_slice()).is_err());
    }
}
