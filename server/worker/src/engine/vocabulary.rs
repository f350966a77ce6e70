//! The model's tokens: from texts, to texts, and the bytes of each.

use std::sync::Arc;

use mistralrs::core::llguidance::toktrie::TokEnv;
use tokenizers::Tokenizer;

/// The model's tokens.
#[derive(Clone)]
pub(crate) struct Vocabulary {
    tokenizer: Arc<Tokenizer>,
    bytes: TokEnv,
    /// Rows of the model's embedding: tokens at or above cannot be computed.
    size: u32,
}

impl Vocabulary {
    /// Tokens of this tokenizer for a model with `size` rows in its embedding; `None` where the model's
    /// files do not tell.
    pub(crate) fn new(tokenizer: Arc<Tokenizer>, bytes: TokEnv, size: Option<u32>) -> Self {
        let known = u32::try_from(tokenizer.get_vocab_size(true)).unwrap_or(u32::MAX);
        Self {
            tokenizer,
            bytes,
            size: size.unwrap_or(known),
        }
    }

    /// Number of tokens that the model computes.
    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Checks that the model or its tokenizer has these tokens.
    pub(crate) fn check(&self, tokens: &[u32]) -> Result<(), String> {
        let known = u32::try_from(self.tokenizer.get_vocab_size(true)).unwrap_or(u32::MAX);
        let size = self.size.max(known);
        let known = |token: u32| token < size || self.tokenizer.id_to_token(token).is_some();
        match tokens.iter().find(|token| !known(**token)) {
            Some(token) => Err(format!(
                "{token} is no token of the model, whose vocabulary has {size}"
            )),
            None => Ok(()),
        }
    }

    /// Splits a text into tokens. Blocks for as long as the text is long. The error is the tokenizer's.
    pub(crate) fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, String> {
        self.tokenizer
            .encode_fast(text, add_special_tokens)
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|e| e.to_string())
    }

    /// Puts tokens together to a text, as the tokenizer does: bytes that are not UTF-8 become U+FFFD.
    pub(crate) fn decode(&self, tokens: &[u32], skip_special: bool) -> Result<String, String> {
        self.tokenizer
            .decode(tokens, skip_special)
            .map_err(|e| e.to_string())
    }

    /// The token of this text, if it is one.
    pub(crate) fn token(&self, text: &str) -> Option<u32> {
        self.tokenizer.token_to_id(text)
    }

    /// Bytes of a token; none for a special one.
    pub(crate) fn bytes_of(&self, token: u32) -> Vec<u8> {
        const SPACE_MARK: &[u8] = "▁".as_bytes();
        let bytes = self.bytes.tok_trie().decode_ext(&[token], false);
        match bytes.strip_prefix(SPACE_MARK) {
            Some(rest) => [b" ", rest].concat(),
            None => bytes,
        }
    }

    /// Whether the tokenizer leaves out the space with which this token begins when a text begins with
    /// it, as tokenizers of the SentencePiece kind do.
    pub(crate) fn hides_first_space(&self, token: u32) -> bool {
        self.bytes_of(token).starts_with(b" ")
            && self
                .decode(&[token], false)
                .is_ok_and(|text| !text.starts_with(' '))
    }
}
