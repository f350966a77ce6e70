//! What a model thinks, separated from its answer by channels, as Harmony (gpt-oss) has them: an answer is messages,
//! each with a header that names its channel, and what is in the channel `analysis` is thought.

use crate::stop::StopMatcher;

/// Begins a message; the role follows.
const START: &str = "<|start|>";
/// The name of the channel follows.
const CHANNEL: &str = "<|channel|>";
/// Ends the header.
const MESSAGE: &str = "<|message|>";
/// Ends a message.
const END: &str = "<|end|>";

/// All of them, and what stands in headers beside them.
pub(super) const TAGS: [&str; 5] = [START, CHANNEL, MESSAGE, END, "<|constrain|>"];

/// Those of them that a chat template of such a model has.
pub(super) const KNOWN_BY: [&str; 2] = [CHANNEL, MESSAGE];

/// The channel of what is thought.
const THOUGHT: &str = "analysis";

/// Separates what is thought from what is said.
#[derive(Debug)]
pub(crate) struct ChannelsParser {
    state: State,
    /// Finds the end of a message.
    end: StopMatcher,
    /// What came of a header.
    header: String,
    /// Whether there was a message that is thought, and one that is said: the next begins in a new line.
    thought: bool,
    said: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has come, or a message has ended: a header comes, or a text without one.
    Before,
    /// Within a header.
    Header,
    /// Within a message, which is thought or said; whether anything of it has come.
    Message { thought: bool, begun: bool },
    /// What comes is a text without a header.
    Text,
}

impl ChannelsParser {
    /// Watches the answer to this prompt, which may end with a header, or in the midst of one.
    pub(super) fn new(prompt: &str) -> Self {
        let mut parser = Self {
            state: State::Before,
            end: StopMatcher::new([END.to_owned()]),
            header: String::new(),
            thought: false,
            said: false,
        };
        let last = prompt.rfind(START).map(|at| &prompt[at..]);
        if let Some(last) = last.filter(|last| last.contains(CHANNEL) && !last.contains(END)) {
            let (mut reasoning, mut text) = (String::new(), String::new());
            parser.push(last, &mut reasoning, &mut text);
        }
        parser
    }

    /// Whether what comes is thought.
    pub(super) fn is_inside(&self) -> bool {
        match self.state {
            State::Message { thought, .. } => thought,
            State::Header => self.header.contains(THOUGHT),
            State::Before | State::Text => false,
        }
    }

    /// Takes further text, and adds what is thought to `reasoning` and what is said to `text`.
    pub(super) fn push(&mut self, new: &str, reasoning: &mut String, text: &mut String) {
        match self.state {
            State::Text => text.push_str(new),
            State::Before | State::Header => self.push_header(new, reasoning, text),
            State::Message { .. } => {
                let mut inside = String::new();
                let ended = self.end.push(new, &mut inside).is_some();
                self.give(&inside, reasoning, text);
                if ended {
                    let rest = self.end.take_pending();
                    let behind = rest.strip_prefix(END).unwrap_or_default().to_owned();
                    self.state = State::Before;
                    self.push(&behind, reasoning, text);
                }
            }
        }
    }

    fn push_header(&mut self, new: &str, reasoning: &mut String, text: &mut String) {
        self.header.push_str(new);
        if self.state == State::Before {
            let begun = self.header.as_str();
            let begins = |tag: &str| begun.starts_with(tag);
            if begins(START) || begins(CHANNEL) {
                self.state = State::Header;
            } else if START.starts_with(begun) || CHANNEL.starts_with(begun) {
                return;
            } else {
                self.state = State::Text;
                text.push_str(&std::mem::take(&mut self.header));
                return;
            }
        }
        let Some((header, message)) = self.header.split_once(MESSAGE) else {
            return;
        };
        let channel = header
            .split_once(CHANNEL)
            .map_or("", |(_, channel)| channel);
        let thought = channel.split_whitespace().next() == Some(THOUGHT);
        let message = message.to_owned();
        self.header.clear();
        self.state = State::Message {
            thought,
            begun: false,
        };
        self.push(&message, reasoning, text);
    }

    /// Gives out a part of a message.
    fn give(&mut self, new: &str, reasoning: &mut String, text: &mut String) {
        let State::Message { thought, begun } = self.state else {
            return;
        };
        if new.is_empty() {
            return;
        }
        let (out, before) = match thought {
            true => (reasoning, &mut self.thought),
            false => (text, &mut self.said),
        };
        if !begun && *before {
            out.push('\n');
        }
        *before = true;
        out.push_str(new);
        self.state = State::Message {
            thought,
            begun: true,
        };
    }

    /// Ends the answer: what was held back is no tag. A header without a message is nothing.
    pub(super) fn finish(&mut self, reasoning: &mut String, text: &mut String) {
        match self.state {
            State::Before => text.push_str(&std::mem::take(&mut self.header)),
            State::Message { .. } => {
                let mut rest = String::new();
                self.end.finish(&mut rest);
                self.give(&rest, reasoning, text);
            }
            State::Header | State::Text => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::reasoning::{ReasoningFormat, tests::parsed};

    const ASSISTANT: &str = "<|start|>assistant";

    /// What comes after which prompt, and what of it is thought and said.
    const CASES: [(&str, &str, &str, &str); 10] = [
        (
            ASSISTANT,
            "<|channel|>analysis<|message|>a\n<|end|><|start|>assistant<|channel|>final<|message|>b <|c",
            "a\n",
            "b <|c",
        ),
        (ASSISTANT, "<|channel|>final<|message|>b", "", "b"),
        (
            ASSISTANT,
            "<|channel|>analysis<|message|>a<|en",
            "a<|en",
            "",
        ),
        (ASSISTANT, "<|channel|>ana", "", ""),
        (ASSISTANT, "plain <|channel|>", "", "plain <|channel|>"),
        (ASSISTANT, "<|", "", "<|"),
        (
            ASSISTANT,
            "<|channel|>commentary<|message|>b<|end|><|start|>assistant<|channel|>final<|message|>c",
            "",
            "b\nc",
        ),
        (
            "<|start|>assistant<|channel|>analysis<|message|>",
            "a<|end|>",
            "a",
            "",
        ),
        (
            "<|start|>assistant<|channel|>",
            "final<|message|>b",
            "",
            "b",
        ),
        (
            "<|start|>user<|message|>x<|end|><|start|>assistant",
            "b",
            "",
            "b",
        ),
    ];

    #[bounded::test]
    fn channels_tell_what_is_thought_from_what_is_said() {
        for (prompt, answer, reasoning, text) in CASES {
            for length in 1..=answer.len() {
                let apart = parsed(ReasoningFormat::Channels, prompt, answer, length);
                assert_eq!(
                    apart,
                    (reasoning.into(), text.into()),
                    "{answer:?} by {length}"
                );
            }
        }
    }
}
