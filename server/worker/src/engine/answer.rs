//! From the tokens of an answer to what its caller gets: whole characters, no stop text, exact counts.

use std::time::{Duration, Instant};

use hangar_client::v1::{
    FinishReason, GenerateChunk, GenerateDone, GenerateTimings, TokenLogprob, ToolCall, TopLogprob,
    Usage,
};

use crate::{
    engine::{
        logits_hook::TokenStep, logprobs::TokenLogprobs, reasoning::ReasoningParser,
        token_selector::NextTokenError,
    },
    stop::StopMatcher,
    tool_calls::ToolCallParser,
    vocabulary::{TextMode, TokenText, Vocabulary},
};

/// An answer as it is made.
pub(crate) struct Answer {
    vocabulary: Vocabulary,
    joined: TokenText,
    stops: StopMatcher,
    /// Tokens that it has at least, before which no stop text ends it.
    min_tokens: u32,
    reasoning: Option<ReasoningParser>,
    calls: Option<ToolCallParser>,
    /// Tokens that are tags of reasoning or calls, and what they stand for: they may be special ones, which have no
    /// text.
    tags: Vec<(u32, &'static str)>,
    /// What the caller has not got yet.
    chunk: GenerateChunk,
    /// Working space: the text of a step.
    text: String,
    prompt_tokens: u32,
    completion_tokens: u32,
    reasoning_tokens: u32,
    queued: Duration,
    started: Instant,
    first: Option<Instant>,
    latest: Option<Instant>,
}

/// How an answer is read.
#[derive(Debug, Default)]
pub(crate) struct AnswerRules {
    /// Texts that end it.
    pub(crate) stops: Vec<String>,
    /// Tokens that it has at least.
    pub(crate) min_tokens: u32,
    /// What its text is to the prompt's.
    pub(crate) text_mode: TextMode,
    /// Finds the reasoning, if that is to be reported apart.
    pub(crate) reasoning: Option<ReasoningParser>,
    /// Finds calls, if the request offers any functions.
    pub(crate) calls: Option<ToolCallParser>,
}

/// How an answer stands after a step.
#[derive(Debug, PartialEq)]
pub(crate) enum AnswerState {
    /// It goes on.
    Open,
    /// It is complete.
    Done(Box<GenerateDone>),
    /// It cannot go on.
    Failed(NextTokenError),
}

impl Answer {
    /// An answer to a prompt of that many tokens, read by these rules.
    pub(crate) fn new(
        vocabulary: Vocabulary,
        prompt_tokens: usize,
        rules: AnswerRules,
        queued: Duration,
    ) -> Self {
        let calls = rules.calls.iter().flat_map(|calls| calls.tags());
        let reasoning = rules.reasoning.iter().flat_map(ReasoningParser::tags);
        let tags = calls.copied().chain(reasoning);
        Self {
            tags: tags
                .filter_map(|tag| Some((vocabulary.token(tag)?, tag)))
                .collect(),
            joined: vocabulary.text(rules.text_mode),
            vocabulary,
            stops: StopMatcher::new(rules.stops),
            min_tokens: rules.min_tokens,
            reasoning: rules.reasoning,
            calls: rules.calls,
            chunk: GenerateChunk::default(),
            text: String::new(),
            prompt_tokens: u32::try_from(prompt_tokens).unwrap_or(u32::MAX),
            completion_tokens: 0,
            reasoning_tokens: 0,
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
            TokenStep::Prompt { token, logprobs } => {
                let logprob = self.logprob(token, &logprobs);
                self.chunk.prompt_logprobs.push(logprob);
                AnswerState::Open
            }
            TokenStep::EndToken { at } => {
                self.first.get_or_insert(at);
                self.finish(FinishReason::Stop)
            }
            TokenStep::Token {
                token,
                at,
                last,
                logprobs,
            } => {
                self.first.get_or_insert(at);
                self.latest = Some(at);
                self.take_token(token, logprobs.as_ref(), last)
            }
        }
    }

    fn take_token(
        &mut self,
        token: u32,
        logprobs: Option<&TokenLogprobs>,
        last: bool,
    ) -> AnswerState {
        self.completion_tokens += 1;
        self.chunk.token_ids.push(token);
        if let Some(logprobs) = logprobs {
            let logprob = self.logprob(token, logprobs);
            self.chunk.logprobs.push(logprob);
        }
        self.join(token);
        let thinks = |answer: &Self| answer.reasoning.as_ref().is_some_and(|it| it.is_inside());
        let thought = thinks(self);
        let done = self.release();
        self.reasoning_tokens += u32::from(thought || thinks(self));
        match done {
            Some(done) => done,
            None if last => self.finish(FinishReason::Length),
            None => AnswerState::Open,
        }
    }

    /// What the caller has not got yet; afterwards it has.
    pub(crate) fn take_chunk(&mut self) -> GenerateChunk {
        std::mem::take(&mut self.chunk)
    }

    /// Whether there is something that the caller has not got yet.
    pub(crate) fn has_chunk(&self) -> bool {
        let chunk = &self.chunk;
        let tokens = chunk.token_ids.len() + chunk.prompt_logprobs.len();
        tokens > 0 || !chunk.text.is_empty() || !chunk.reasoning.is_empty()
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

    fn logprob(&self, token: u32, logprobs: &TokenLogprobs) -> TokenLogprob {
        let text = |token| String::from_utf8_lossy(&self.vocabulary.bytes_of(token)).into_owned();
        let top = |(token_id, logprob): &(u32, f32)| TopLogprob {
            token_id: *token_id,
            text: text(*token_id),
            logprob: *logprob,
        };
        TokenLogprob {
            token_id: token,
            text: text(token),
            logprob: logprobs.logprob,
            top: logprobs.top.iter().map(top).collect(),
        }
    }

    /// Adds what is certain of the text with this token to the step's.
    fn join(&mut self, token: u32) {
        match self.tags.iter().find(|(tag, _)| *tag == token) {
            Some((_, tag)) => self.joined.push_literal(tag, &mut self.text),
            None => self.joined.push(token, &mut self.text),
        }
    }

    /// Gives out the step's text; the end if a stop text came.
    fn release(&mut self) -> Option<AnswerState> {
        if self.reasoning.is_none() && self.calls.is_none() {
            let stop = self.stop_in(None)?;
            return Some(self.done(FinishReason::Stop, stop, Vec::new()));
        }
        let mut given = String::new();
        let stop = self.stop_in(Some(&mut given));
        self.give(&given);
        let stop = stop?;
        self.give_held();
        Some(self.done(FinishReason::Stop, stop, Vec::new()))
    }

    /// Takes the step's text up to a stop text to `given`, or else to the caller; the stop text if one came.
    fn stop_in(&mut self, given: Option<&mut String>) -> Option<String> {
        let given = given.unwrap_or(&mut self.chunk.text);
        let stop = if self.completion_tokens < self.min_tokens {
            given.push_str(&self.text);
            None
        } else {
            self.stops.push(&self.text, given)
        };
        self.text.clear();
        stop
    }

    /// Gives out text without stop texts: what is thought, and what is no part of a call.
    fn give(&mut self, given: &str) {
        let chunk = &mut self.chunk;
        let mut text = String::new();
        let text = match &mut self.reasoning {
            None => given,
            Some(reasoning) => {
                reasoning.push(given, &mut chunk.reasoning, &mut text);
                text.as_str()
            }
        };
        match &mut self.calls {
            None => chunk.text.push_str(text),
            Some(calls) => calls.push(text, &mut chunk.text),
        }
    }

    /// Ends the answer after the text that is still held back.
    fn finish(&mut self, reason: FinishReason) -> AnswerState {
        self.joined.finish(&mut self.text);
        if let Some(done) = self.release() {
            return done;
        }
        let mut rest = String::new();
        self.stops.finish(&mut rest);
        self.give(&rest);
        self.end_reasoning();
        let calls = match &mut self.calls {
            // A call that was cut off is none.
            Some(calls) if reason == FinishReason::Stop || calls.is_prompted() => {
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

    fn end_reasoning(&mut self) {
        let mut text = String::new();
        if let Some(reasoning) = &mut self.reasoning {
            reasoning.finish(&mut self.chunk.reasoning, &mut text);
        }
        match &mut self.calls {
            None => self.chunk.text.push_str(&text),
            Some(calls) => calls.push(&text, &mut self.chunk.text),
        }
    }

    /// Gives out what turned out to be no tag and no call.
    fn give_held(&mut self) {
        self.end_reasoning();
        if let Some(calls) = &mut self.calls {
            calls.finish(&mut self.chunk.text);
        }
    }

    fn done(&self, reason: FinishReason, stop: String, tool_calls: Vec<ToolCall>) -> AnswerState {
        AnswerState::Done(Box::new(GenerateDone {
            finish_reason: reason.into(),
            usage: Some(Usage {
                prompt_tokens: self.prompt_tokens,
                completion_tokens: self.completion_tokens,
                reasoning_tokens: self.reasoning_tokens,
            }),
            timings: Some(self.timings()),
            stop,
            tool_calls,
            answers: Vec::new(),
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
