//! Puts tokens together to text as they come: all pieces together are, byte for byte, what the tokenizer's decoder
//! makes of all tokens at once.
//!
//! A decoder is a list of steps, of which each changes all tokens before the next begins. Here each step takes what has
//! come, and keeps back what depends on what is still to come.

use std::{borrow::Cow, sync::Arc};

use tokenizers::{Decoder as _, DecoderWrapper, Tokenizer, decoders::strip::Strip};

use crate::utf8::Utf8Joiner;

/// A tokenizer's decoder, of which each step can be taken token by token.
#[derive(Debug, Clone)]
pub(crate) struct Decoding(Arc<[DecoderStep]>);

#[derive(Debug)]
enum DecoderStep {
    /// Changes each piece by itself.
    Each(DecoderWrapper),
    /// Changes each token by itself, the first one otherwise than the others.
    First(DecoderWrapper),
    /// Puts a run of tokens that are bytes together, once it has ended: one byte that is wrong spoils all of it.
    ByteRun(DecoderWrapper),
    /// Puts the bytes of all tokens together.
    Bytes,
    /// Leaves out so many of these at the beginning of the text.
    Beginning { content: char, most: usize },
}

/// What a step keeps for the tokens that are to come.
#[derive(Debug, Default)]
struct StepState {
    begun: bool,
    run: Vec<String>,
    joiner: Utf8Joiner,
    left_out: usize,
}

/// A text that is put together.
#[derive(Debug)]
pub(crate) struct DecodedText {
    decoding: Decoding,
    states: Vec<StepState>,
}

impl Decoding {
    /// That of a tokenizer. The error says what of it cannot be done token by token.
    pub(crate) fn of(tokenizer: &Tokenizer) -> Result<Self, String> {
        let mut steps = Vec::new();
        let mut merged = false;
        match tokenizer.get_decoder() {
            None => return Err("has no decoder".into()),
            Some(decoder) => add_steps(decoder, &mut steps, &mut merged)?,
        }
        Ok(Self(steps.into()))
    }

    /// A text of its own, or, if `goes_on`, one that goes on with another.
    pub(crate) fn begin(&self, goes_on: bool) -> DecodedText {
        let states = self.0.iter().map(|step| StepState {
            begun: goes_on,
            left_out: match step {
                DecoderStep::Beginning { most, .. } if goes_on => *most,
                _ => 0,
            },
            ..StepState::default()
        });
        DecodedText {
            states: states.collect(),
            decoding: self.clone(),
        }
    }
}

impl DecodedText {
    /// Takes the next token, as the vocabulary has it, and adds what is certain of the text now.
    pub(crate) fn push(&mut self, token: String, text: &mut String) {
        self.take(vec![token], false, text);
    }

    /// Adds what was kept back: no token follows.
    pub(crate) fn finish(&mut self, text: &mut String) {
        self.take(Vec::new(), true, text);
    }

    /// What follows goes on with a text, even if nothing has come.
    pub(crate) fn advance(&mut self) {
        for (step, state) in self.decoding.0.iter().zip(&mut self.states) {
            state.begun = true;
            if let DecoderStep::Beginning { most, .. } = step {
                state.left_out = *most;
            }
        }
    }

    fn take(&mut self, mut pieces: Vec<String>, last: bool, text: &mut String) {
        for (step, state) in self.decoding.0.iter().zip(&mut self.states) {
            pieces = step.take(state, pieces, last);
        }
        text.extend(pieces);
    }
}

impl DecoderStep {
    fn take(&self, state: &mut StepState, mut pieces: Vec<String>, last: bool) -> Vec<String> {
        match self {
            Self::Each(decoder) => decode(decoder, pieces),
            Self::First(decoder) => {
                let begun = state.begun;
                state.begun |= !pieces.is_empty();
                if begun {
                    pieces.insert(0, String::new());
                }
                let decoded = decode(decoder, pieces);
                decoded.into_iter().skip(usize::from(begun)).collect()
            }
            Self::ByteRun(decoder) => {
                let mut out = Vec::new();
                for piece in pieces {
                    if is_byte(&piece) {
                        state.run.push(piece);
                    } else {
                        out.extend(decode(decoder, std::mem::take(&mut state.run)));
                        out.push(piece);
                    }
                }
                if last {
                    out.extend(decode(decoder, std::mem::take(&mut state.run)));
                }
                out
            }
            Self::Bytes => {
                let mut text = String::new();
                for piece in &pieces {
                    state.joiner.push(&bytes_of(piece), &mut text);
                }
                if last {
                    state.joiner.finish(&mut text);
                }
                vec![text]
            }
            Self::Beginning { content, most } => {
                for piece in &mut pieces {
                    while state.left_out < *most && piece.starts_with(*content) {
                        state.left_out += 1;
                        piece.remove(0);
                    }
                    if !piece.is_empty() {
                        state.left_out = *most;
                    }
                }
                pieces
            }
        }
    }
}

/// None of the decoders that are used fails.
fn decode(decoder: &DecoderWrapper, pieces: Vec<String>) -> Vec<String> {
    decoder.decode_chain(pieces).unwrap_or_default()
}

fn add_steps(
    decoder: &DecoderWrapper,
    steps: &mut Vec<DecoderStep>,
    merged: &mut bool,
) -> Result<(), String> {
    let step = match decoder {
        DecoderWrapper::Sequence(sequence) => {
            let mut all = sequence.get_decoders().iter();
            return all.try_for_each(|decoder| add_steps(decoder, steps, merged));
        }
        DecoderWrapper::Fuse(_) => {
            *merged = true;
            return Ok(());
        }
        DecoderWrapper::ByteLevel(_) if !*merged => {
            *merged = true;
            DecoderStep::Bytes
        }
        DecoderWrapper::ByteFallback(_) if !*merged => DecoderStep::ByteRun(decoder.clone()),
        DecoderWrapper::Metaspace(_) if !*merged => DecoderStep::First(decoder.clone()),
        DecoderWrapper::Replace(_) if !*merged || replaces_characters(decoder) => {
            DecoderStep::Each(decoder.clone())
        }
        DecoderWrapper::Strip(Strip {
            content,
            start,
            stop: 0,
            ..
        }) => match *merged {
            true => DecoderStep::Beginning {
                content: *content,
                most: *start,
            },
            false => DecoderStep::Each(decoder.clone()),
        },
        decoder => {
            let shown = serde_json::to_string(decoder).unwrap_or_default();
            return Err(format!(
                "has the decoder {shown} where it needs the whole text"
            ));
        }
    };
    steps.push(step);
    Ok(())
}

/// Whether what is replaced is one character, so that it is in one piece.
fn replaces_characters(decoder: &DecoderWrapper) -> bool {
    let fields = serde_json::to_value(decoder).unwrap_or_default();
    let pattern = fields["pattern"]["String"].as_str();
    pattern.is_some_and(|pattern| pattern.chars().count() == 1)
}

/// Whether a token is a byte, by the tokenizers' own rule.
fn is_byte(token: &str) -> bool {
    let hex = token
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'))
        .filter(|hex| hex.len() == 2);
    hex.is_some_and(|hex| u8::from_str_radix(hex, 16).is_ok())
}

/// Bytes of a token in which a character stands for each of them; those of the token itself if one stands for none.
fn bytes_of(token: &str) -> Cow<'_, [u8]> {
    match token.chars().map(byte_of).collect::<Option<Vec<u8>>>() {
        Some(bytes) => bytes.into(),
        None => token.as_bytes().into(),
    }
}

/// The byte for which a character stands: those that can be printed stand for themselves, and the others are
/// numbered from U+0100 on.
fn byte_of(character: char) -> Option<u8> {
    const CONTROLS: std::ops::RangeInclusive<u32> = 0x7F..=0xA0;
    match character {
        '!'..='~' | '\u{A1}'..='\u{AC}' | '\u{AE}'..='\u{FF}' => u8::try_from(character).ok(),
        '\u{100}'..='\u{120}' => u8::try_from(u32::from(character) - 0x100).ok(),
        '\u{121}'..='\u{142}' => u8::try_from(u32::from(character) - 0x121 + CONTROLS.start()).ok(),
        '\u{143}' => Some(0xAD),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
