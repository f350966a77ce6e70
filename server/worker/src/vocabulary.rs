//! The model's tokens: from texts, to texts, and the bytes of each.

mod decoding;
mod text;
mod text_error;
mod text_memory;

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use mistralrs::core::llguidance::toktrie::{TokEnv, TokTrie};
use text_memory::TextMemory;
use tokenizers::Tokenizer;
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    decoding::Decoding,
    text::{TextMode, TokenText},
    text_error::TextError,
    text_memory::TextMemoryShare,
};

/// Longest text in bytes that is split into tokens without a look at how many these are.
pub(crate) const SLICE: usize = 256 << 10;

/// Tokens that a text cut in two may have more than the whole, at most: those of a few long words.
const CUT: usize = 256;

/// The model's tokens.
#[derive(Clone)]
pub(crate) struct Vocabulary {
    tokenizer: Arc<Tokenizer>,
    /// `None` for a model that gives no text.
    bytes: Option<TokEnv>,
    /// `None` for a model that gives no text.
    decoding: Option<Decoding>,
    /// Tokens that were added for their text, such as `<think>`, which [`TokEnv`] takes for special ones.
    plain: Arc<HashMap<u32, String>>,
    /// Rows of the model's embedding: tokens at or above cannot be computed.
    size: u32,
    memory: TextMemory,
}

impl Vocabulary {
    /// Tokens of this tokenizer for a model with `size` rows in its embedding; `None` where the model's
    /// files do not say.
    pub(crate) fn new(tokenizer: Arc<Tokenizer>, bytes: Option<TokEnv>, size: Option<u32>) -> Self {
        let known = u32::try_from(tokenizer.get_vocab_size(true)).unwrap_or(u32::MAX);
        let added = tokenizer.get_added_tokens_decoder().into_iter();
        let plain = added.filter(|(_, token)| !token.special);
        Self {
            bytes,
            decoding: Decoding::of(&tokenizer).ok(),
            plain: Arc::new(plain.map(|(id, token)| (id, token.content)).collect()),
            tokenizer,
            size: size.unwrap_or(known),
            memory: TextMemory::default(),
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

    /// Splits a text into tokens. Blocks for as long as the text is long, and others are.
    pub(crate) fn encode(
        &self,
        text: &str,
        add_special_tokens: bool,
        cancelled: &CancellationToken,
    ) -> Result<Vec<u32>, TextError> {
        let _memory = self.memory.split(text.len(), cancelled)?;
        self.tokenizer
            .encode_fast(text, add_special_tokens)
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|e| TextError::Refused(e.to_string()))
    }

    /// Whether `text` has more than `limit` tokens by far. Splits it slice by slice, because all tokens of a
    /// long text at once take some two hundred times the memory that the text does.
    pub(crate) fn is_beyond(
        &self,
        text: &str,
        limit: usize,
        cancelled: &CancellationToken,
    ) -> Result<bool, TextError> {
        let mut rest = text;
        let mut tokens: usize = 0;
        while !rest.is_empty() {
            let (slice, after) = rest.split_at(rest.floor_char_boundary(SLICE).max(1));
            tokens += self.encode(slice, false, cancelled)?.len();
            // A cut may make one token into two, and more where whole words are tokens.
            tokens = tokens.saturating_sub(CUT);
            if tokens > limit {
                return Ok(true);
            }
            rest = after;
        }
        Ok(false)
    }

    /// Puts tokens together to a text, as the tokenizer does: bytes that are not UTF-8 become U+FFFD. Blocks for as long
    /// as there are many, and others have many.
    pub(crate) fn decode(
        &self,
        tokens: &[u32],
        skip_special: bool,
        cancelled: &CancellationToken,
    ) -> Result<String, TextError> {
        let _memory = self.memory.join(tokens.len(), cancelled)?;
        self.tokenizer
            .decode(tokens, skip_special)
            .map_err(|e| TextError::Refused(e.to_string()))
    }

    /// Blocks until a conversation of so many bytes may be rendered.
    pub(crate) fn wait_to_render(
        &self,
        bytes: usize,
        cancelled: &CancellationToken,
    ) -> Result<TextMemoryShare<'_>, TextError> {
        self.memory.render(bytes, cancelled)
    }

    /// The token of this text, if it is one.
    pub(crate) fn token(&self, text: &str) -> Option<u32> {
        self.tokenizer.token_to_id(text)
    }

    /// Bytes of a token; none for a special one.
    pub(crate) fn bytes_of(&self, token: u32) -> Cow<'_, [u8]> {
        const SPACE_MARK: &[u8] = "▁".as_bytes();
        if let Some(text) = self.plain.get(&token) {
            return text.as_bytes().into();
        }
        let Some(bytes) = &self.bytes else {
            return Cow::default();
        };
        let bytes = bytes.tok_trie().token(token);
        if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) {
            return Cow::default();
        }
        match bytes.strip_prefix(SPACE_MARK) {
            Some(rest) => [b" ", rest].concat().into(),
            None => bytes.into(),
        }
    }

    /// Number of tokens that the tokenizer knows.
    pub(crate) fn known(&self) -> u32 {
        let known = self.bytes.as_ref();
        let known = known.map_or(0, |bytes| bytes.tok_trie().vocab_size());
        u32::try_from(known).unwrap_or(u32::MAX)
    }

    /// Bytes of a token as grammars see them: those of its text, or its name behind a mark if it is a
    /// special one.
    pub(crate) fn grammar_bytes(&self, token: u32) -> Vec<u8> {
        let Some(bytes) = &self.bytes else {
            return self.bytes_of(token).into_owned();
        };
        let trie = bytes.tok_trie();
        if trie.is_special_token(token) && !self.plain.contains_key(&token) {
            trie.token(token).to_vec()
        } else {
            self.bytes_of(token).into_owned()
        }
    }

    /// A token as the tokenizer writes it, if it is no special one.
    fn plain_token(&self, token: u32) -> Option<String> {
        let added = self.tokenizer.get_added_vocabulary();
        let token = self.tokenizer.id_to_token(token)?;
        (!added.is_special_token(&token)).then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use mistralrs::core::llguidance::toktrie::{ApproximateTokEnv, TokRxInfo};

    use super::*;

    #[bounded::test]
    fn tokens_that_were_added_for_their_text_have_it_and_special_ones_have_none() {
        let token = |id: u32, content: &str, special: bool| {
            serde_json::json!({
                "id": id, "content": content, "special": special, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false,
            })
        };
        let tokenizer = serde_json::json!({
            "version": "1.0",
            "added_tokens": [token(1, "<think>", false), token(2, "<|im_end|>", true)],
            "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
        });
        let tokenizer = Tokenizer::from_bytes(tokenizer.to_string()).expect("a tokenizer");
        let words = [
            b"a".to_vec(),
            b"\xff<think>".to_vec(),
            b"\xff<|im_end|>".to_vec(),
        ];
        let trie = TokTrie::from(&TokRxInfo::new(3, 2), &words);
        let bytes: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let vocabulary = Vocabulary::new(Arc::new(tokenizer), Some(bytes), None);
        let texts: Vec<_> = (0..3)
            .map(|token| vocabulary.bytes_of(token).into_owned())
            .collect();
        assert_eq!(texts, [b"a".to_vec(), b"<think>".to_vec(), Vec::new()]);
        assert_eq!(vocabulary.grammar_bytes(1), b"<think>");
        assert_eq!(vocabulary.grammar_bytes(2), b"\xff<|im_end|>");
    }
}
