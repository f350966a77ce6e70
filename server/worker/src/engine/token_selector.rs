//! Selects the tokens of one answer: the grammar says which may come, the rules choose among them, and what
//! is said of the chosen one is read off the model's own logits.

use hangar_client::v1::{Constraint, GenerateRequest};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    engine::{
        Engine,
        logprobs::{TokenLogprobs, logprobs_of},
        sampling::{SamplingRules, TokenSampler},
        token_rules::TokenRules,
    },
    grammar::{Grammar, GrammarError, GrammarState},
    grpc_error,
};

/// Selects the tokens of one answer.
pub(crate) struct TokenSelector {
    sampler: TokenSampler,
    tokens: TokenRules,
    grammar: Option<Grammar>,
    /// Tokens that were selected.
    generated: u32,
    /// How many most likely tokens are given with each; `None`: none, and no log probabilities.
    top: Option<usize>,
}

/// What comes next in an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NextToken {
    /// A token.
    Token {
        /// The token.
        token: u32,
        /// How likely it was, if that was asked for.
        logprobs: Option<TokenLogprobs>,
    },
    /// The end.
    End,
}

/// Nothing can come next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NextTokenError {
    /// The model's logits are not numbers.
    #[error("the model computed scores that are not numbers (NaN or infinite)")]
    NoLogits,
    /// The grammar cannot be followed.
    #[error(transparent)]
    Grammar(#[from] GrammarError),
}

impl TokenSelector {
    /// Selects by the rules alone.
    pub(crate) fn new(sampler: TokenSampler, tokens: TokenRules) -> Self {
        Self {
            sampler,
            tokens,
            grammar: None,
            generated: 0,
            top: None,
        }
    }

    /// Lets nothing come but what the grammar allows, if there is one.
    pub(super) fn follow(&mut self, grammar: Option<Grammar>) {
        self.grammar = grammar;
    }

    /// What ends the grammar, if there is one, and whoever waits for it.
    pub(super) fn cancellation(&self) -> Option<CancellationToken> {
        self.grammar.as_ref().map(Grammar::cancellation)
    }

    /// What comes next. `logits` holds the model's for each token and is used as working space.
    pub(crate) fn select(&mut self, logits: &mut [f32]) -> Result<NextToken, NextTokenError> {
        let own = self.top.map(|_| logits.to_vec());
        self.tokens.add_bias(logits);
        if let Some(grammar) = &mut self.grammar
            && grammar.restrict(logits, self.tokens.eos_token_ids())? == GrammarState::Complete
        {
            return Ok(NextToken::End);
        }
        self.tokens.leave_out(logits, self.generated);
        let token = self
            .sampler
            .choose(logits)
            .map_err(|_| NextTokenError::NoLogits)?;
        if self.tokens.eos_token_ids().contains(&token) {
            return Ok(NextToken::End);
        }
        self.generated = self.generated.saturating_add(1);
        let logprobs = match (own, self.top) {
            (Some(own), Some(top)) => {
                Some(logprobs_of(&own, token, top).ok_or(NextTokenError::NoLogits)?)
            }
            _ => None,
        };
        Ok(NextToken::Token { token, logprobs })
    }

    /// Goes on behind this token: another one is to come.
    pub(crate) fn advance(&mut self, token: u32) {
        if let Some(grammar) = &mut self.grammar {
            grammar.accept(token);
        }
    }
}

impl Engine {
    /// What selects the tokens of an answer to this request, whose prompt has these tokens and which, where it has to
    /// be a call, conforms to `call`; still without the [`Self::grammar`].
    pub(super) fn selector(
        &self,
        request: &GenerateRequest,
        prompt: &[u32],
        call: Option<&Constraint>,
    ) -> Result<TokenSelector, Status> {
        let defaults = self.generation_defaults.as_ref();
        let rules = SamplingRules::resolve(request.sampling.as_ref(), defaults);
        let conforms = call.is_some() || request.constraint.is_some();
        let tokens = self.token_rules(request, prompt.len(), conforms)?;
        Ok(TokenSelector {
            sampler: TokenSampler::new(rules, prompt, request.seed),
            tokens,
            grammar: None,
            generated: 0,
            top: request.logprobs.then_some(request.top_logprobs as usize),
        })
    }

    /// What the answer to this request, or the `call` that it has to be, conforms to.
    pub(super) async fn grammar(
        &self,
        request: &GenerateRequest,
        call: Option<&Constraint>,
        cancelled: &CancellationToken,
    ) -> Result<Option<Grammar>, Status> {
        let (constraint, origin) = match (call, &request.constraint) {
            (Some(call), _) => (call, Some("tools")),
            (None, Some(constraint)) => (constraint, None),
            (None, None) => return Ok(None),
        };
        let grammar = self.grammars.begin(constraint, origin, cancelled).await?;
        Ok(Some(grammar))
    }
}

impl From<NextTokenError> for Status {
    fn from(fault: NextTokenError) -> Self {
        match fault {
            NextTokenError::NoLogits => grpc_error::internal(fault.to_string()),
            NextTokenError::Grammar(error) => error.into(),
        }
    }
}
