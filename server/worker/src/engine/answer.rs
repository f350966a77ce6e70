//! From the tokens of an answer to what its caller gets: whole characters, no stop text, exact counts.

use std::time::{Duration, Instant};

use hangar_client::v1::{
    FinishReason, GenerateChunk, GenerateDone, GenerateTimings, TokenLogprob, ToolCall, TopLogprob,
    Usage,
};

use crate::{
    calls::CallWatch,
    engine::{logprobs::Likelihood, picker::PickError, tap::TokenStep},
    stop::StopMatcher,
    utf8::Utf8Joiner,
    vocabulary::Vocabulary,
};

/// An answer as it is made.
pub(crate) struct Answer {
    vocabulary: Vocabulary,
    joiner: Utf8Joiner,
    stops: StopMatcher,
    watch: Option<CallDetector>,
    /// What the caller has not got yet.
    chunk: GenerateChunk,
    /// Working space: the text of a step.
    text: String,
    /// Whether a space that the tokenizer hides at the beginning of a text is still to be left out.
    strip_space: bool,
    /// Whether half of a character is left out at the end.
    whole: bool,
    prompt_tokens: u32,
    completion_tokens: u32,
    queued: Duration,
    started: Instant,
    first: Option<Instant>,
    latest: Option<Instant>,
}

/// Looks for calls.
struct CallDetector {
    calls: CallWatch,
    /// Tokens that are marks of calls, and what they stand for: they may be special ones, which have no text.
    marks: Vec<(u32, &'static str)>,
    /// Working space: the text of a step without stop texts.
    text: String,
}

/// What the text of an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextMode {
    /// It goes on with the prompt's.
    Continuation,
    /// It is one of its own, at whose beginning the tokenizer may hide a space.
    NewText,
    /// It conforms to a grammar, which counts every character: nothing is left out at its beginning, and
    /// no half of a character is shown at its end.
    Constrained,
}

/// How an answer stands after a step.
#[derive(Debug, PartialEq)]
pub(crate) enum AnswerState {
    /// It goes on.
    Open,
    /// It is complete.
    Done(Box<GenerateDone>),
    /// It cannot go on.
    Failed(PickError),
}

impl Answer {
    /// An answer to a prompt of that many tokens, which ends at these texts.
    pub(crate) fn new(
        vocabulary: Vocabulary,
        prompt_tokens: usize,
        stops: Vec<String>,
        text_mode: TextMode,
        calls: Option<CallWatch>,
        queued: Duration,
    ) -> Self {
        let watch = calls.map(|calls| CallDetector {
            marks: calls
                .marks()
                .iter()
                .filter_map(|mark| Some((vocabulary.token(mark)?, *mark)))
                .collect(),
            calls,
            text: String::new(),
        });
        Self {
            watch,
            vocabulary,
            joiner: Utf8Joiner::default(),
            stops: StopMatcher::new(stops),
            chunk: GenerateChunk::default(),
            text: String::new(),
            strip_space: text_mode == TextMode::NewText,
            whole: text_mode == TextMode::Constrained,
            prompt_tokens: u32::try_from(prompt_tokens).unwrap_or(u32::MAX),
            completion_tokens: 0,
            queued,
            started: Instant::now(),
            first: None,
            latest: None,
        }
    }

    /// Takes what the engine did.
    pub(crate) fn take(&mut self, step: TokenStep) -> AnswerState {
        match step {
            TokenStep::Failed(fault) => AnswerState::Failed(fault),
            TokenStep::EndToken { at } => {
                self.first.get_or_insert(at);
                self.finish(FinishReason::Stop)
            }
            TokenStep::Token {
                token,
                at,
                last,
                likelihood,
            } => {
                self.first.get_or_insert(at);
                self.latest = Some(at);
                self.completion_tokens += 1;
                self.chunk.token_ids.push(token);
                if let Some(likelihood) = likelihood {
                    let logprob = self.logprob(token, &likelihood);
                    self.chunk.logprobs.push(logprob);
                }
                self.join(token);
                if let Some(done) = self.release() {
                    return done;
                }
                if last {
                    self.finish(FinishReason::Length)
                } else {
                    AnswerState::Open
                }
            }
        }
    }

    /// What the caller has not got yet; afterwards it has.
    pub(crate) fn take_chunk(&mut self) -> GenerateChunk {
        std::mem::take(&mut self.chunk)
    }

    /// Whether there is something that the caller has not got yet.
    pub(crate) fn has_chunk(&self) -> bool {
        !self.chunk.token_ids.is_empty() || !self.chunk.text.is_empty()
    }

    /// Tokens of the prompt.
    pub(crate) fn prompt_tokens(&self) -> u32 {
        self.prompt_tokens
    }

    /// Tokens that were made.
    pub(crate) fn completion_tokens(&self) -> u32 {
        self.completion_tokens
    }

    /// How many tokens came after the first, and in what time.
    pub(crate) fn generated(&self) -> (u32, Duration) {
        let took = match (self.first, self.latest) {
            (Some(first), Some(latest)) => latest.saturating_duration_since(first),
            _ => Duration::ZERO,
        };
        (self.completion_tokens.saturating_sub(1), took)
    }

    fn logprob(&self, token: u32, likelihood: &Likelihood) -> TokenLogprob {
        let text = |token| String::from_utf8_lossy(&self.vocabulary.bytes_of(token)).into_owned();
        let top = |(token_id, logprob): &(u32, f32)| TopLogprob {
            token_id: *token_id,
            text: text(*token_id),
            logprob: *logprob,
        };
        TokenLogprob {
            token_id: token,
            text: text(token),
            logprob: likelihood.logprob,
            top: likelihood.top.iter().map(top).collect(),
        }
    }

    /// Adds the characters that are whole with this token to the step's text.
    fn join(&mut self, token: u32) {
        let mut marks = self.watch.iter().flat_map(|watch| &watch.marks);
        let bytes = match marks.find(|(mark, _)| *mark == token) {
            Some((_, text)) => text.as_bytes().into(),
            None => self.vocabulary.bytes_of(token),
        };
        let mut bytes = &*bytes;
        if self.strip_space && !bytes.is_empty() {
            self.strip_space = false;
            if self.vocabulary.hides_first_space(token) {
                bytes = &bytes[1..];
            }
        }
        self.joiner.push(bytes, &mut self.text);
    }

    /// Gives out the step's text; the end if a stop text came.
    fn release(&mut self) -> Option<AnswerState> {
        let given = match &mut self.watch {
            None => &mut self.chunk.text,
            Some(watch) => &mut watch.text,
        };
        let stop = self.stops.push(&self.text, given);
        self.text.clear();
        self.look_for_calls();
        let stop = stop?;
        self.give_held();
        Some(self.done(FinishReason::Stop, stop, Vec::new()))
    }

    /// Ends the answer after the text that is still held back.
    fn finish(&mut self, reason: FinishReason) -> AnswerState {
        if !self.whole {
            self.joiner.finish(&mut self.text);
        }
        if let Some(done) = self.release() {
            return done;
        }
        match &mut self.watch {
            None => self.stops.finish(&mut self.chunk.text),
            Some(watch) => self.stops.finish(&mut watch.text),
        }
        self.look_for_calls();
        let calls = match &mut self.watch {
            // A call that was cut off is none.
            Some(CallDetector { calls, .. })
                if reason == FinishReason::Stop || calls.is_prompted() =>
            {
                calls.calls(&mut self.chunk.text)
            }
            _ => Vec::new(),
        };
        if !calls.is_empty() {
            return self.done(FinishReason::ToolCalls, String::new(), calls);
        }
        self.give_held();
        self.done(reason, String::new(), Vec::new())
    }

    /// Gives out what is no part of a call.
    fn look_for_calls(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.calls.push(&watch.text, &mut self.chunk.text);
            watch.text.clear();
        }
    }

    /// Gives out what turned out to be no call.
    fn give_held(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.calls.finish(&mut self.chunk.text);
        }
    }

    fn done(&self, reason: FinishReason, stop: String, tool_calls: Vec<ToolCall>) -> AnswerState {
        AnswerState::Done(Box::new(GenerateDone {
            finish_reason: reason.into(),
            usage: Some(Usage {
                prompt_tokens: self.prompt_tokens,
                completion_tokens: self.completion_tokens,
            }),
            timings: Some(self.timings()),
            stop,
            tool_calls,
        }))
    }

    fn timings(&self) -> GenerateTimings {
        let first = self.first.map(|first| first.duration_since(self.started));
        let (further, decoding) = self.generated();
        let seconds = decoding.as_secs_f64();
        GenerateTimings {
            queued: self.queued.try_into().ok(),
            time_to_first_token: first.and_then(|first| first.try_into().ok()),
            decoding: decoding.try_into().ok(),
            tokens_per_second: (further > 0 && seconds > 0.0).then(|| f64::from(further) / seconds),
        }
    }
}
