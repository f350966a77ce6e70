//! What a model thinks before it answers, separated from the answer by the tags that it writes around it, or by the
//! channels of its messages.
//!
//! Between tags, thinking is at the beginning of an answer or not at all, so that tags which are only talked about are
//! text. A prompt may end with the first tag; then the answer begins within.

mod channels;

use self::channels::ChannelsParser;
use crate::{engine::chat::ChatTemplate, stop::StopMatcher, vocabulary::Vocabulary};

/// How a model tells what it thinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReasoningFormat {
    /// Between two tags.
    Between(ReasoningTags),
    /// In a channel of its own.
    Channels,
}

/// Separates what is thought from what is said.
#[derive(Debug)]
pub(crate) enum ReasoningParser {
    Between(TagParser),
    Channels(ChannelsParser),
}

impl ReasoningFormat {
    /// That of a model by its chat template, which mentions channels or the second tag, or by its tokens, which has all
    /// of them.
    pub(crate) fn of(chat: &ChatTemplate, vocabulary: &Vocabulary) -> Option<Self> {
        let is_token = |text: &&str| vocabulary.token(text).is_some();
        let mentioned = channels::KNOWN_BY.iter().all(|tag| chat.mentions(tag));
        if mentioned || channels::TAGS.iter().all(is_token) {
            return Some(Self::Channels);
        }
        ReasoningTags::of(chat, vocabulary).map(Self::Between)
    }

    /// The tags, which may be tokens of their own.
    pub(crate) fn tags(self) -> Vec<&'static str> {
        match self {
            Self::Between(tags) => vec![tags.open, tags.close],
            Self::Channels => channels::TAGS.into(),
        }
    }

    /// The parser of the answer to this prompt.
    pub(crate) fn parser(self, prompt: &str) -> ReasoningParser {
        match self {
            Self::Between(tags) => ReasoningParser::Between(TagParser::new(tags, prompt)),
            Self::Channels => ReasoningParser::Channels(ChannelsParser::new(prompt)),
        }
    }
}

impl ReasoningParser {
    /// The tags that it looks for.
    pub(crate) fn tags(&self) -> Vec<&'static str> {
        match self {
            Self::Between(parser) => ReasoningFormat::Between(parser.tags).tags(),
            Self::Channels(_) => ReasoningFormat::Channels.tags(),
        }
    }

    /// Whether what comes is thought.
    pub(crate) fn is_inside(&self) -> bool {
        match self {
            Self::Between(parser) => parser.is_inside(),
            Self::Channels(parser) => parser.is_inside(),
        }
    }

    /// Takes further text, and adds what is thought to `reasoning` and what is said to `text`.
    pub(crate) fn push(&mut self, new: &str, reasoning: &mut String, text: &mut String) {
        match self {
            Self::Between(parser) => parser.push(new, reasoning, text),
            Self::Channels(parser) => parser.push(new, reasoning, text),
        }
    }

    /// Ends the answer: what was held back is no tag.
    pub(crate) fn finish(&mut self, reasoning: &mut String, text: &mut String) {
        match self {
            Self::Between(parser) => parser.finish(reasoning, text),
            Self::Channels(parser) => parser.finish(reasoning, text),
        }
    }
}

/// What a model writes before and after what it thinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReasoningTags {
    open: &'static str,
    close: &'static str,
}

/// The tags that are known: Qwen and DeepSeek, Mistral, Cohere, Seed.
const KNOWN: [ReasoningTags; 4] = [
    ReasoningTags {
        open: "<think>",
        close: "</think>",
    },
    ReasoningTags {
        open: "[THINK]",
        close: "[/THINK]",
    },
    ReasoningTags {
        open: "<|START_THINKING|>",
        close: "<|END_THINKING|>",
    },
    ReasoningTags {
        open: "<seed:think>",
        close: "</seed:think>",
    },
];

/// Ends of lines, which stand between tags and what is thought or said.
const LINE_ENDS: [char; 2] = ['\n', '\r'];

/// Finds what is thought between two tags.
#[derive(Debug)]
pub(crate) struct TagParser {
    tags: ReasoningTags,
    state: ReasoningState,
    /// Finds the second tag.
    close: StopMatcher,
    /// Text that may be the first tag, or ends of lines after which there may be nothing.
    pending: String,
    /// Working space.
    inside: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReasoningState {
    /// Nothing has come but white space and what may be the first tag.
    Before,
    /// Within, where nothing has come yet.
    Opened,
    /// Within.
    Inside,
    /// Behind, where nothing has come yet.
    Closed,
    /// What comes is the answer.
    Text,
}

impl ReasoningTags {
    /// The tags of a model by its chat template, which mentions the second one, or by its tokens, which has both.
    fn of(chat: &ChatTemplate, vocabulary: &Vocabulary) -> Option<Self> {
        KNOWN.into_iter().find(|tags| {
            let is_token = |text| vocabulary.token(text).is_some();
            chat.mentions(tags.close) || (is_token(tags.open) && is_token(tags.close))
        })
    }
}

impl TagParser {
    /// The parser of the answer to this prompt.
    fn new(tags: ReasoningTags, prompt: &str) -> Self {
        let opened = prompt.trim_end().ends_with(tags.open);
        Self {
            tags,
            state: if opened {
                ReasoningState::Opened
            } else {
                ReasoningState::Before
            },
            close: StopMatcher::new([tags.close.to_owned()]),
            pending: String::new(),
            inside: String::new(),
        }
    }

    /// Whether the second tag is still to come.
    fn is_inside(&self) -> bool {
        matches!(self.state, ReasoningState::Opened | ReasoningState::Inside)
    }

    /// Takes further text, and adds what is thought to `reasoning` and what is said to `text`.
    fn push(&mut self, new: &str, reasoning: &mut String, text: &mut String) {
        match self.state {
            ReasoningState::Before => self.find_opening_tag(new, reasoning, text),
            ReasoningState::Opened | ReasoningState::Inside => {
                let mut inside = std::mem::take(&mut self.inside);
                let closed = self.close.push(new, &mut inside).is_some();
                self.think(&inside, reasoning);
                inside.clear();
                self.inside = inside;
                if closed {
                    self.state = ReasoningState::Closed;
                    self.pending.clear();
                    let rest = self.close.take_pending();
                    let behind = rest.strip_prefix(self.tags.close).unwrap_or_default();
                    self.push(behind, reasoning, text);
                }
            }
            ReasoningState::Closed => {
                let after = new.trim_start_matches(LINE_ENDS);
                if !after.is_empty() {
                    self.state = ReasoningState::Text;
                    text.push_str(after);
                }
            }
            ReasoningState::Text => text.push_str(new),
        }
    }

    fn find_opening_tag(&mut self, new: &str, reasoning: &mut String, text: &mut String) {
        self.pending.push_str(new);
        let begun = self.pending.trim_start();
        if let Some(inside) = begun.strip_prefix(self.tags.open) {
            let inside = inside.to_owned();
            self.pending.clear();
            self.state = ReasoningState::Opened;
            self.push(&inside, reasoning, text);
        } else if !self.tags.open.starts_with(begun) {
            self.state = ReasoningState::Text;
            text.push_str(&std::mem::take(&mut self.pending));
        }
    }

    /// Gives out what is thought, without the ends of lines around it.
    fn think(&mut self, new: &str, reasoning: &mut String) {
        let new = match self.state {
            ReasoningState::Opened => new.trim_start_matches(LINE_ENDS),
            _ => new,
        };
        if new.is_empty() {
            return;
        }
        self.state = ReasoningState::Inside;
        let thought = new.trim_end_matches(LINE_ENDS);
        if !thought.is_empty() {
            reasoning.push_str(&std::mem::take(&mut self.pending));
            reasoning.push_str(thought);
        }
        self.pending.push_str(&new[thought.len()..]);
    }

    /// Ends the answer: what was held back is no tag.
    fn finish(&mut self, reasoning: &mut String, text: &mut String) {
        match self.state {
            ReasoningState::Before => text.push_str(&std::mem::take(&mut self.pending)),
            ReasoningState::Opened | ReasoningState::Inside => {
                let mut inside = String::new();
                self.close.finish(&mut inside);
                self.think(&inside, reasoning);
            }
            ReasoningState::Closed | ReasoningState::Text => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is thought and said in the answer to this prompt, of pieces of so many characters.
    pub(super) fn parsed(
        format: ReasoningFormat,
        prompt: &str,
        answer: &str,
        length: usize,
    ) -> (String, String) {
        let mut parser = format.parser(prompt);
        let (mut reasoning, mut text) = (String::new(), String::new());
        let characters: Vec<char> = answer.chars().collect();
        for piece in characters.chunks(length) {
            let piece: String = piece.iter().collect();
            parser.push(&piece, &mut reasoning, &mut text);
        }
        parser.finish(&mut reasoning, &mut text);
        (reasoning, text)
    }

    fn apart(prompt: &str, answer: &str, length: usize) -> (String, String) {
        parsed(ReasoningFormat::Between(KNOWN[0]), prompt, answer, length)
    }

    #[bounded::test]
    fn thinking_is_separated_from_the_answer() {
        for (prompt, answer, reasoning, text) in [
            ("", "<think>\na\n\nb\n</think>\n\nc\n", "a\n\nb", "c\n"),
            ("<think>\n", "a\n</think>\n\nc", "a", "c"),
            ("", "\n\n<think>a</think>c", "a", "c"),
            ("", "c <think>a</think>", "", "c <think>a</think>"),
            ("", "  c", "", "  c"),
            ("", "<think>a", "a", ""),
            ("", "<thin", "", "<thin"),
            ("<think>", "a</thin", "a</thin", ""),
            ("<think>\n\n</think>\n\n", "c", "", "c"),
            ("", "<think></think>", "", ""),
            (
                "",
                "<think>a</think>\n<think>b</think>",
                "a",
                "<think>b</think>",
            ),
        ] {
            for length in 1..=answer.len() {
                let apart = apart(prompt, answer, length);
                assert_eq!(
                    apart,
                    (reasoning.into(), text.into()),
                    "{answer:?} by {length}"
                );
            }
        }
    }

    proptest! {
        #[bounded::test]
        fn thinking_is_found_however_the_answer_is_cut_into_pieces(answer in "(<think>)?[a<\n]{0,9}(</think>)?[a<\n]{0,9}", length in 1..9_usize) {
            prop_assert_eq!(apart("", &answer, length), apart("", &answer, answer.len().max(1)));
        }
    }
}
