//! The text of an answer, as its tokens come.

use super::{Vocabulary, decoding::DecodedText};
use crate::utf8::Utf8Joiner;

/// What the text of an answer is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextMode {
    /// It goes on with the prompt's.
    #[default]
    Continuation,
    /// It is one of its own, at whose beginning the tokenizer may hide a space.
    NewText,
    /// It conforms to a grammar, which counts every character: nothing is left out at its beginning, and
    /// no half of a character is shown at its end.
    Constrained,
}

/// Puts the tokens of an answer together.
pub(crate) struct TokenText {
    vocabulary: Vocabulary,
    joined: Joined,
}

enum Joined {
    /// As the tokenizer does it.
    Decoded(DecodedText),
    /// As grammars see them.
    Bytes(Utf8Joiner),
}

impl Vocabulary {
    /// The text of an answer in this vocabulary.
    pub(crate) fn text(&self, mode: TextMode) -> TokenText {
        TokenText::new(self.clone(), mode)
    }
}

impl TokenText {
    fn new(vocabulary: Vocabulary, mode: TextMode) -> Self {
        let joined = match (mode, &vocabulary.decoding) {
            (TextMode::Constrained, _) | (_, None) => Joined::Bytes(Utf8Joiner::default()),
            (mode, Some(decoding)) => {
                Joined::Decoded(decoding.begin(mode == TextMode::Continuation))
            }
        };
        Self { vocabulary, joined }
    }

    /// Takes the next token, and adds what is certain of the text now. A special one has no text.
    pub(crate) fn push(&mut self, token: u32, text: &mut String) {
        match &mut self.joined {
            Joined::Bytes(joiner) => joiner.push(&self.vocabulary.bytes_of(token), text),
            Joined::Decoded(decoded) => {
                if let Some(token) = self.vocabulary.plain_token(token) {
                    decoded.push(token, text);
                }
            }
        }
    }

    /// Adds a text that stands for a token, behind what was kept back.
    pub(crate) fn push_literal(&mut self, literal: &str, text: &mut String) {
        match &mut self.joined {
            Joined::Bytes(joiner) => joiner.push(literal.as_bytes(), text),
            Joined::Decoded(decoded) => {
                decoded.finish(text);
                decoded.advance();
                text.push_str(literal);
            }
        }
    }

    /// Adds what was kept back: no token follows.
    pub(crate) fn finish(&mut self, text: &mut String) {
        if let Joined::Decoded(decoded) = &mut self.joined {
            decoded.finish(text);
        }
    }
}
