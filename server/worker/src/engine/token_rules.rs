//! What a request says of single tokens: what is added to their logits, which end the answer, and which may not
//! be chosen yet, or at all.

use std::sync::Arc;

use hangar_client::v1::GenerateRequest;
use tonic::Status;

use crate::{engine::Engine, grpc_error, inspect::TokenDefaults};

/// What a request says of single tokens.
#[derive(Debug, Clone, Default)]
pub(crate) struct TokenRules {
    /// Tokens that end the answer.
    eos_token_ids: Arc<[u32]>,
    /// Tokens that are never chosen.
    suppress_tokens: Arc<[u32]>,
    /// Tokens that are not chosen as the first one.
    begin_suppress_tokens: Arc<[u32]>,
    /// What is added to logits.
    bias: Vec<(u32, f32)>,
    /// Tokens that the answer has at least.
    min_tokens: u32,
}

impl TokenRules {
    /// These tokens end the answer, and that is all.
    pub(crate) fn with_eos(eos_token_ids: Arc<[u32]>) -> Self {
        Self {
            eos_token_ids,
            ..Self::default()
        }
    }

    /// Tokens that end the answer.
    pub(crate) fn eos_token_ids(&self) -> &[u32] {
        &self.eos_token_ids
    }

    /// Adds to logits what is to be added.
    pub(crate) fn add_bias(&self, logits: &mut [f32]) {
        for (token, bias) in &self.bias {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit += bias;
            }
        }
    }

    /// Leaves out the tokens that may not come when so many have come.
    pub(crate) fn leave_out(&self, logits: &mut [f32], generated: u32) {
        let eos_token_ids: &[u32] = if generated < self.min_tokens {
            &self.eos_token_ids
        } else {
            &[]
        };
        let begin_suppress_tokens: &[u32] = if generated == 0 {
            &self.begin_suppress_tokens
        } else {
            &[]
        };
        for token in self
            .suppress_tokens
            .iter()
            .chain(eos_token_ids)
            .chain(begin_suppress_tokens)
        {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

impl Engine {
    /// What this request, whose prompt has so many tokens, and else the model's files say of single tokens. What the
    /// files say is not for an answer that has to conform to something, which may need any token.
    pub(super) fn token_rules(
        &self,
        request: &GenerateRequest,
        prompt: usize,
        conforms: bool,
    ) -> Result<TokenRules, Status> {
        let size = self.vocabulary.size();
        let known = |field: &str, token: u32| match token < size {
            true => Ok(token),
            false => Err(grpc_error::invalid_field(
                field,
                format!("{token} is no token of the model, whose vocabulary has {size}"),
            )),
        };
        let stops = request.stop_token_ids.iter().enumerate();
        let stops: Vec<u32> = stops
            .map(|(n, token)| known(&format!("stop_token_ids[{n}]"), *token))
            .collect::<Result<_, _>>()?;
        let bias = request.logit_bias.iter();
        let bias: Vec<(u32, f32)> = bias
            .map(|(token, bias)| Ok((known("logit_bias", *token)?, *bias)))
            .collect::<Result<_, Status>>()?;
        let defaults = match conforms {
            true => &TokenDefaults::default(),
            false => &self.token_defaults,
        };
        let own: &[u32] = &self.eos_token_ids;
        let (own, suppress_tokens) = match request.ignore_eos {
            true => (&[][..], own),
            false => (own, &[][..]),
        };
        Ok(TokenRules {
            suppress_tokens: suppress_tokens
                .iter()
                .filter(|it| !stops.contains(it))
                .chain(&defaults.suppress_tokens)
                .copied()
                .collect(),
            begin_suppress_tokens: defaults.begin_suppress_tokens.as_slice().into(),
            eos_token_ids: own.iter().copied().chain(stops).collect(),
            bias,
            min_tokens: match request.min_tokens {
                0 => defaults.min_new_tokens(prompt),
                asked => asked,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn end_tokens_are_masked_until_min_tokens_and_banned_ones_always() {
        let rules = TokenRules {
            eos_token_ids: [0].into(),
            suppress_tokens: [1].into(),
            begin_suppress_tokens: [2].into(),
            bias: vec![(2, 1.5), (9, 1.0)],
            min_tokens: 2,
        };
        let logits = |generated| {
            let mut logits = [1.0; 3];
            rules.add_bias(&mut logits);
            rules.leave_out(&mut logits, generated);
            logits
        };
        const NONE: f32 = f32::NEG_INFINITY;
        assert_eq!(logits(0), [NONE, NONE, NONE]);
        assert_eq!(logits(1), [NONE, NONE, 2.5]);
        assert_eq!(logits(2), [1.0, NONE, 2.5]);
    }
}
