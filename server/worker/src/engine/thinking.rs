//! What a model thinks before it answers, separated from the answer by the marks that it writes around it, or by the
//! channels of its messages.
//!
//! Between marks, thinking is at the beginning of an answer or not at all, so that marks which are only talked about are
//! text. A prompt may end with the first mark; then the answer begins within.

mod channels;

use self::channels::ChannelsParser;
use crate::{engine::chat::ChatTemplate, stop::StopMatcher, vocabulary::Vocabulary};

/// How a model tells what it thinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ThinkingNotation {
    /// Between two marks.
    Between(ThinkingMarks),
    /// In a channel of its own.
    Channels,
}

/// Separates what is thought from what is said.
#[derive(Debug)]
pub(crate) enum ThinkingParser {
    Between(MarksParser),
    Channels(ChannelsParser),
}

impl ThinkingNotation {
    /// That of a model by its chat template, which mentions channels or the second mark, or by its tokens, which has all
    /// of them.
    pub(crate) fn of(chat: &ChatTemplate, vocabulary: &Vocabulary) -> Option<Self> {
        let is_token = |text: &&str| vocabulary.token(text).is_some();
        let mentioned = channels::KNOWN_BY.iter().all(|mark| chat.mentions(mark));
        if mentioned || channels::MARKS.iter().all(is_token) {
            return Some(Self::Channels);
        }
        ThinkingMarks::of(chat, vocabulary).map(Self::Between)
    }

    /// The marks, which may be tokens of their own.
    pub(crate) fn marks(self) -> Vec<&'static str> {
        match self {
            Self::Between(marks) => vec![marks.open, marks.close],
            Self::Channels => channels::MARKS.into(),
        }
    }

    /// The parser of the answer to this prompt.
    pub(crate) fn parser(self, prompt: &str) -> ThinkingParser {
        match self {
            Self::Between(marks) => ThinkingParser::Between(MarksParser::new(marks, prompt)),
            Self::Channels => ThinkingParser::Channels(ChannelsParser::new(prompt)),
        }
    }
}

impl ThinkingParser {
    /// The marks that it looks for.
    pub(crate) fn marks(&self) -> Vec<&'static str> {
        match self {
            Self::Between(watch) => ThinkingNotation::Between(watch.marks).marks(),
            Self::Channels(_) => ThinkingNotation::Channels.marks(),
        }
    }

    /// Whether what comes is thought.
    pub(crate) fn is_inside(&self) -> bool {
        match self {
            Self::Between(watch) => watch.is_inside(),
            Self::Channels(watch) => watch.is_inside(),
        }
    }

    /// Takes further text, and adds what is thought to `reasoning` and what is said to `text`.
    pub(crate) fn push(&mut self, new: &str, reasoning: &mut String, text: &mut String) {
        match self {
            Self::Between(watch) => watch.push(new, reasoning, text),
            Self::Channels(watch) => watch.push(new, reasoning, text),
        }
    }

    /// Ends the answer: what was held back is no mark.
    pub(crate) fn finish(&mut self, reasoning: &mut String, text: &mut String) {
        match self {
            Self::Between(watch) => watch.finish(reasoning, text),
            Self::Channels(watch) => watch.finish(reasoning, text),
        }
    }
}

/// What a model writes before and after what it thinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThinkingMarks {
    open: &'static str,
    close: &'static str,
}

/// The marks that are known: Qwen and DeepSeek, Mistral, Cohere, Seed.
const KNOWN: [ThinkingMarks; 4] = [
    ThinkingMarks {
        open: "<think>",
        close: "</think>",
    },
    ThinkingMarks {
        open: "[THINK]",
        close: "[/THINK]",
    },
    ThinkingMarks {
        open: "<|START_THINKING|>",
        close: "<|END_THINKING|>",
    },
    ThinkingMarks {
        open: "<seed:think>",
        close: "</seed:think>",
    },
];

/// Ends of lines, which stand between marks and what is thought or said.
const LINE_ENDS: [char; 2] = ['\n', '\r'];

/// Finds what is thought between two marks.
#[derive(Debug)]
pub(crate) struct MarksParser {
    marks: ThinkingMarks,
    state: ThinkingState,
    /// Finds the second mark.
    close: StopMatcher,
    /// Text that may be the first mark, or ends of lines after which there may be nothing.
    pending: String,
    /// Working space.
    inside: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ThinkingState {
    /// Nothing has come but white space and what may be the first mark.
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

impl ThinkingMarks {
    /// The marks of a model by its chat template, which mentions the second one, or by its tokens, which has both.
    fn of(chat: &ChatTemplate, vocabulary: &Vocabulary) -> Option<Self> {
        KNOWN.into_iter().find(|marks| {
            let is_token = |text| vocabulary.token(text).is_some();
            chat.mentions(marks.close) || (is_token(marks.open) && is_token(marks.close))
        })
    }
}

impl MarksParser {
    /// The parser of the answer to this prompt.
    fn new(marks: ThinkingMarks, prompt: &str) -> Self {
        let opened = prompt.trim_end().ends_with(marks.open);
        Self {
            marks,
            state: if opened {
                ThinkingState::Opened
            } else {
                ThinkingState::Before
            },
            close: StopMatcher::new([marks.close.to_owned()]),
            pending: String::new(),
            inside: String::new(),
        }
    }

    /// Whether the second mark is still to come.
    fn is_inside(&self) -> bool {
        matches!(self.state, ThinkingState::Opened | ThinkingState::Inside)
    }

    /// Takes further text, and adds what is thought to `reasoning` and what is said to `text`.
    fn push(&mut self, new: &str, reasoning: &mut String, text: &mut String) {
        match self.state {
            ThinkingState::Before => self.look_for_open(new, reasoning, text),
            ThinkingState::Opened | ThinkingState::Inside => {
                let mut inside = std::mem::take(&mut self.inside);
                let closed = self.close.push(new, &mut inside).is_some();
                self.think(&inside, reasoning);
                inside.clear();
                self.inside = inside;
                if closed {
                    self.state = ThinkingState::Closed;
                    self.pending.clear();
                    let rest = self.close.take_pending();
                    let behind = rest.strip_prefix(self.marks.close).unwrap_or_default();
                    self.push(behind, reasoning, text);
                }
            }
            ThinkingState::Closed => {
                let said = new.trim_start_matches(LINE_ENDS);
                if !said.is_empty() {
                    self.state = ThinkingState::Text;
                    text.push_str(said);
                }
            }
            ThinkingState::Text => text.push_str(new),
        }
    }

    fn look_for_open(&mut self, new: &str, reasoning: &mut String, text: &mut String) {
        self.pending.push_str(new);
        let begun = self.pending.trim_start();
        if let Some(inside) = begun.strip_prefix(self.marks.open) {
            let inside = inside.to_owned();
            self.pending.clear();
            self.state = ThinkingState::Opened;
            self.push(&inside, reasoning, text);
        } else if !self.marks.open.starts_with(begun) {
            self.state = ThinkingState::Text;
            text.push_str(&std::mem::take(&mut self.pending));
        }
    }

    /// Gives out what is thought, without the ends of lines around it.
    fn think(&mut self, new: &str, reasoning: &mut String) {
        let new = match self.state {
            ThinkingState::Opened => new.trim_start_matches(LINE_ENDS),
            _ => new,
        };
        if new.is_empty() {
            return;
        }
        self.state = ThinkingState::Inside;
        let thought = new.trim_end_matches(LINE_ENDS);
        if !thought.is_empty() {
            reasoning.push_str(&std::mem::take(&mut self.pending));
            reasoning.push_str(thought);
        }
        self.pending.push_str(&new[thought.len()..]);
    }

    /// Ends the answer: what was held back is no mark.
    fn finish(&mut self, reasoning: &mut String, text: &mut String) {
        match self.state {
            ThinkingState::Before => text.push_str(&std::mem::take(&mut self.pending)),
            ThinkingState::Opened | ThinkingState::Inside => {
                let mut inside = String::new();
                self.close.finish(&mut inside);
                self.think(&inside, reasoning);
            }
            ThinkingState::Closed | ThinkingState::Text => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is thought and said in the answer to this prompt, of pieces of so many characters.
    pub(super) fn parsed(
        notation: ThinkingNotation,
        prompt: &str,
        answer: &str,
        length: usize,
    ) -> (String, String) {
        let mut parser = notation.parser(prompt);
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
        parsed(ThinkingNotation::Between(KNOWN[0]), prompt, answer, length)
    }

    #[test]
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
        #[test]
        fn thinking_is_found_however_the_answer_is_cut_into_pieces(answer in "(<think>)?[a<\n]{0,9}(</think>)?[a<\n]{0,9}", length in 1..9_usize) {
            prop_assert_eq!(apart("", &answer, length), apart("", &answer, answer.len().max(1)));
        }
    }
}
