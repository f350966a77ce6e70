//! The place in the engine where tokens are chosen, and where they are emitted.
//!
//! A hook is the logits processor of one request: the engine shows it the logits of each step, it chooses
//! the token and leaves the engine no other. So the exact tokens are known, an answer can be ended at any
//! step, and a token that the engine makes beyond the end is known to be none of the answer.
//!
//! The engine answers to most steps with a response of its own, microseconds later. That wakes whoever
//! follows the answer, so that emitting the step wakes nobody: on the engine's thread, each wake counts.
//! [`EmittedSteps::overdue`] covers what the engine does not answer to, [`EmittedSteps::ended`] the end.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use candle_core::{Device, Tensor};
use mistralrs::core::CustomLogitsProcessor;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    engine::{
        logprobs::{TokenLogprobs, logprobs_of},
        token_selector::{NextToken, NextTokenError, TokenSelector},
    },
    stats::Prefill,
};

/// What happened at a step of the engine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TokenStep {
    /// A token of the answer was made.
    Token {
        /// The token.
        token: u32,
        /// When.
        at: Instant,
        /// Whether it is the last one that was allowed.
        last: bool,
        /// How likely it was, if that was asked for.
        logprobs: Option<TokenLogprobs>,
    },
    /// A token of the prompt was read whose log probability was asked for.
    Prompt {
        /// The token.
        token: u32,
        /// How likely it was.
        logprobs: TokenLogprobs,
    },
    /// The model ended the answer, or its grammar did.
    EndToken {
        /// When.
        at: Instant,
    },
    /// No token could be chosen.
    Failed(NextTokenError),
}

/// The rest of a prompt, which the engine gets token by token.
#[derive(Debug, Default)]
pub(crate) struct PromptRest {
    /// Its tokens.
    pub(crate) tokens: VecDeque<u32>,
    /// Log probabilities, and those of so many most likely tokens with each; `None`: none.
    pub(crate) prompt_logprobs: Option<usize>,
}

/// Chooses and emits the tokens of one answer.
pub(crate) struct LogitsHook {
    selector: Mutex<TokenSelector>,
    /// The token that makes the engine end the sequence, where there is one.
    engine_eos_token: Option<u32>,
    rest: Mutex<PromptRest>,
    /// How many tokens may still be made.
    remaining: Mutex<usize>,
    ended: AtomicBool,
    steps: mpsc::Sender<TokenStep>,
    overdue: Arc<Notify>,
    over: Arc<Notify>,
    reading: Arc<Prefill>,
    /// What ends the grammar that a step may wait for.
    grammar: Option<CancellationToken>,
}

/// The steps that a hook emits.
pub(crate) struct EmittedSteps {
    steps: mpsc::Receiver<TokenStep>,
    overdue: Arc<Notify>,
    over: Arc<Notify>,
}

/// A hook as the engine has it.
pub(crate) struct HookProcessor {
    hook: Arc<LogitsHook>,
    _guard: oneshot::Sender<()>,
}

impl LogitsHook {
    /// A hook for an answer of at most `max_tokens` to the prompt `reading`, of which the engine gets `rest` token by
    /// token, and the steps that it emits.
    pub(crate) fn new(
        selector: TokenSelector,
        engine_eos_token: Option<u32>,
        rest: PromptRest,
        max_tokens: usize,
        reading: Arc<Prefill>,
    ) -> (Arc<Self>, EmittedSteps) {
        // One step a token and one more to end: sending never fails for want of space.
        let prompt_logprobs = rest.prompt_logprobs.map_or(0, |_| rest.tokens.len());
        let (sender, steps) = mpsc::channel(max_tokens + prompt_logprobs + 2);
        let (overdue, over) = (Arc::<Notify>::default(), Arc::<Notify>::default());
        let hook = Self {
            grammar: selector.cancellation(),
            selector: Mutex::new(selector),
            engine_eos_token,
            rest: Mutex::new(rest),
            remaining: Mutex::new(max_tokens),
            ended: AtomicBool::new(false),
            steps: sender,
            overdue: Arc::clone(&overdue),
            over: Arc::clone(&over),
            reading,
        };
        let emitted = EmittedSteps {
            steps,
            overdue,
            over,
        };
        (Arc::new(hook), emitted)
    }

    /// What the engine gets of this hook, and what ends when the engine has released it.
    pub(crate) fn logits_processor(self: &Arc<Self>) -> (HookProcessor, oneshot::Receiver<()>) {
        let (guard, released) = oneshot::channel();
        let processor = HookProcessor {
            hook: Arc::clone(self),
            _guard: guard,
        };
        (processor, released)
    }

    /// Ends the answer at the engine's next step, and one that waits for its grammar. Nothing is emitted any more.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(grammar) = &self.grammar {
            grammar.cancel();
        }
    }

    /// Token that makes the engine end the sequence, where there is one.
    fn end_token(&self) -> u32 {
        self.engine_eos_token.unwrap_or(0)
    }

    fn step(&self, logits: &mut [f32]) -> u32 {
        match self.has_rest() {
            true => self.reading.go_on(),
            false => self.reading.step(),
        }
        if self.ended.load(Ordering::Relaxed) {
            return self.end_token();
        }
        if let Some(token) = self.next_of_prompt(logits) {
            return token;
        }
        let mut selector = self.selector.lock().unwrap_or_else(PoisonError::into_inner);
        let selected = selector.select(logits);
        let at = Instant::now();
        let (token, step) = match selected {
            Err(fault) => (self.end_token(), TokenStep::Failed(fault)),
            Ok(NextToken::End) => (self.end_token(), TokenStep::EndToken { at }),
            Ok(NextToken::Token { token, logprobs }) => {
                let last = self.take_one();
                if !last {
                    selector.advance(token);
                }
                let step = TokenStep::Token {
                    token,
                    at,
                    last,
                    logprobs,
                };
                (token, step)
            }
        };
        let last = !matches!(step, TokenStep::Token { last: false, .. });
        // Nobody listens any more only when the answer is of no use to anybody.
        if self.steps.try_send(step).is_err() || last {
            self.end();
        }
        let unread = self.steps.max_capacity() - self.steps.capacity();
        if last {
            self.over.notify_one();
        } else if unread > 1 {
            self.overdue.notify_one();
        }
        token
    }

    /// Whether the engine has still to get tokens of the prompt.
    fn has_rest(&self) -> bool {
        let rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        !rest.tokens.is_empty()
    }

    /// The next token of the prompt, of which the engine has just computed how likely each would be.
    fn next_of_prompt(&self, logits: &[f32]) -> Option<u32> {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let token = rest.tokens.pop_front()?;
        let Some(top) = rest.prompt_logprobs else {
            return Some(token);
        };
        let step = match logprobs_of(logits, token, top) {
            Some(logprobs) => TokenStep::Prompt { token, logprobs },
            None => TokenStep::Failed(NextTokenError::NoLogits),
        };
        let failed = matches!(step, TokenStep::Failed(_));
        if self.steps.try_send(step).is_err() || failed {
            self.end();
            self.over.notify_one();
            return Some(self.end_token());
        }
        self.overdue.notify_one();
        Some(token)
    }

    /// Counts a token; whether it is the last one.
    fn take_one(&self) -> bool {
        let mut remaining = self
            .remaining
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *remaining = remaining.saturating_sub(1);
        *remaining == 0
    }
}

impl EmittedSteps {
    /// The next step, if there is one already.
    pub(crate) fn next(&mut self) -> Option<TokenStep> {
        self.steps.try_recv().ok()
    }

    /// Returns when the last step was emitted. Safe to cancel.
    pub(crate) async fn ended(&self) {
        self.over.notified().await;
    }

    /// Returns when there are steps, but not the last one, that the engine may not answer to. Safe to cancel.
    pub(crate) async fn overdue(&self) {
        self.overdue.notified().await;
    }
}

impl CustomLogitsProcessor for HookProcessor {
    fn apply(&self, logits: &Tensor, _context: &[u32]) -> candle_core::Result<Tensor> {
        let mut logits: Vec<f32> = logits.to_vec1()?;
        let token = self.hook.step(&mut logits) as usize;
        logits.fill(f32::NEG_INFINITY);
        if let Some(logit) = logits.get_mut(token) {
            *logit = 0.0;
        }
        let count = logits.len();
        Tensor::from_vec(logits, count, &Device::Cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{
            sampling::{SamplingRules, TokenSampler},
            token_rules::TokenRules,
        },
        stats::Stats,
    };

    fn hook(max_tokens: usize) -> (Arc<LogitsHook>, EmittedSteps) {
        let tokens = TokenRules::with_eos([0].into());
        let selector = TokenSelector::new(
            TokenSampler::new(SamplingRules::greedy(), &[], None),
            tokens,
        );
        let request = Arc::<Stats>::default().begin(1);
        let reading = request.reading().clone();
        LogitsHook::new(
            selector,
            Some(0),
            PromptRest::default(),
            max_tokens,
            reading,
        )
    }

    #[bounded::test]
    fn the_rest_of_the_prompt_is_no_part_of_the_answer() {
        let (hook, mut emitted) = hook(1);
        hook.rest.lock().expect("the rest").tokens.extend([7, 0]);
        let tokens: Vec<u32> = (0..4).map(|_| hook.step(&mut [0.0, 1.0])).collect();
        assert_eq!(tokens, [7, 0, 1, 0]);
        assert!(matches!(
            emitted.next(),
            Some(TokenStep::Token {
                token: 1,
                last: true,
                ..
            })
        ));
        assert_eq!(emitted.next(), None);
    }

    #[bounded::test]
    fn the_engine_is_left_no_other_token() {
        let (hook, _receiver) = hook(5);
        let logits = Tensor::new(&[0.0f32, 1.0, 2.0], &Device::Cpu).expect("scores");
        let (processor, _released) = hook.logits_processor();
        let left = processor.apply(&logits, &[]).expect("scores");
        let left: Vec<f32> = left.to_vec1().expect("scores");
        assert_eq!(left, [f32::NEG_INFINITY, f32::NEG_INFINITY, 0.0]);
    }

    #[bounded::test]
    fn the_release_by_the_engine_is_noticed() {
        let (hook, _receiver) = hook(5);
        let (processor, mut released) = hook.logits_processor();
        assert_eq!(
            released.try_recv(),
            Err(oneshot::error::TryRecvError::Empty)
        );
        drop(processor);
        assert_eq!(
            released.try_recv(),
            Err(oneshot::error::TryRecvError::Closed)
        );
    }

    #[bounded::test]
    fn the_last_token_is_marked_and_then_the_answer_ends() {
        let (hook, mut emitted) = hook(2);
        let tokens: Vec<u32> = (0..4).map(|_| hook.step(&mut [0.0, 1.0])).collect();
        assert_eq!(tokens, [1, 1, 0, 0]);
        assert!(matches!(
            emitted.next(),
            Some(TokenStep::Token { last: false, .. })
        ));
        assert!(matches!(
            emitted.next(),
            Some(TokenStep::Token { last: true, .. })
        ));
        assert_eq!(emitted.next(), None);
    }

    #[bounded::test]
    fn an_end_token_ends_the_answer() {
        let (hook, mut emitted) = hook(5);
        assert_eq!(hook.step(&mut [1.0, 0.0]), 0);
        assert!(matches!(emitted.next(), Some(TokenStep::EndToken { .. })));
        assert_eq!(hook.step(&mut [0.0, 1.0]), 0);
        assert_eq!(emitted.next(), None);
    }

    #[bounded::test]
    fn an_ended_answer_goes_no_further() {
        let (hook, mut emitted) = hook(5);
        hook.end();
        assert_eq!(hook.step(&mut [0.0, 1.0]), 0);
        assert_eq!(emitted.next(), None);
    }

    #[bounded::test]
    fn scores_that_are_no_numbers_fail_the_answer() {
        let (hook, mut emitted) = hook(5);
        hook.step(&mut [f32::NAN, 1.0]);
        assert_eq!(
            emitted.next(),
            Some(TokenStep::Failed(NextTokenError::NoLogits))
        );
    }

    async fn is_ready(wait: impl Future<Output = ()>) -> bool {
        tokio::select! {
            biased;
            () = wait => true,
            () = std::future::ready(()) => false,
        }
    }

    #[bounded::test]
    async fn two_steps_that_nobody_took_are_overdue() {
        let (hook, mut emitted) = hook(5);
        hook.step(&mut [0.0, 1.0]);
        assert!(!is_ready(emitted.overdue()).await);
        hook.step(&mut [0.0, 1.0]);
        assert!(is_ready(emitted.overdue()).await);
        assert!(emitted.next().is_some() && emitted.next().is_some());
        assert!(!is_ready(emitted.overdue()).await);
    }

    #[bounded::test]
    async fn the_last_step_is_emitted_at_once() {
        for max_tokens in [1, 5] {
            let (hook, emitted) = hook(max_tokens);
            hook.step(&mut [0.0, 1.0]);
            assert_eq!(is_ready(emitted.ended()).await, max_tokens == 1);
            hook.step(&mut [1.0, 0.0]);
            assert_eq!(is_ready(emitted.ended()).await, max_tokens == 5);
        }
    }
}
