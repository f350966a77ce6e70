//! What a request says of single tokens: how much it may say. Whether the model has these tokens is for the worker to
//! say.

use hangar_client::v1::GenerateRequest;

use crate::rpc::validate::Violations;

/// Most tokens of a prompt or a text that is given as tokens.
const MAX_TOKENS: usize = 1 << 20;

/// Most tokens that end an answer.
const MAX_STOPS: usize = 128;

/// Most tokens whose scores are changed, and by how much.
const MAX_BIASES: usize = 1024;
const MAX_BIAS: f32 = 100.0;

/// Most answers to one request.
const MAX_ANSWERS: u32 = 8;

/// Takes note of what is wrong with it.
pub(super) fn check(request: &GenerateRequest, violations: &mut Violations) {
    check_count("prompt_token_ids", &request.prompt_token_ids, violations);
    let few = request.stop_token_ids.len() <= MAX_STOPS;
    violations.check(few, "stop_token_ids", "must have at most 128 tokens");
    let few = request.logit_bias.len() <= MAX_BIASES;
    violations.check(few, "logit_bias", "must have at most 1,024 tokens");
    let mut biases = request.logit_bias.values();
    let small = biases.all(|bias| bias.abs() <= MAX_BIAS);
    violations.check(small, "logit_bias", "must be from -100 to 100");
    violations.check(request.n <= MAX_ANSWERS, "n", "must be at most 8");
    if request.constraint.is_some() {
        let what = "is not possible with a constraint, which ends the answer by itself";
        violations.check(request.min_tokens == 0, "min_tokens", what);
        violations.check(!request.ignore_eos, "ignore_eos", what);
    }
    let long_enough = request.max_tokens == 0 || request.min_tokens <= request.max_tokens;
    violations.check(long_enough, "min_tokens", "is more than max_tokens");
}

/// Takes note of too many tokens in `field`.
pub(super) fn check_count(field: &str, tokens: &[u32], violations: &mut Violations) {
    let few = tokens.len() <= MAX_TOKENS;
    violations.check(few, field, "must have at most 1,048,576 tokens");
}

#[cfg(test)]
mod tests {
    use hangar_client::v1::Constraint;

    use super::*;
    use crate::rpc::error::ApiError;

    fn wrong(change: impl FnOnce(&mut GenerateRequest)) -> Vec<String> {
        let mut request = GenerateRequest::default();
        change(&mut request);
        let mut violations = Violations::default();
        check(&request, &mut violations);
        match violations.finish().map_err(ApiError::from) {
            Ok(()) => Vec::new(),
            Err(ApiError::Invalid(violations)) => {
                violations.into_iter().map(|(field, _)| field).collect()
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    #[bounded::test]
    fn tokens_have_limits() {
        assert!(wrong(|r| r.n = MAX_ANSWERS).is_empty());
        assert_eq!(wrong(|r| r.n = MAX_ANSWERS + 1), ["n"]);
        assert_eq!(
            wrong(|r| r.stop_token_ids = vec![1; MAX_STOPS + 1]),
            ["stop_token_ids"]
        );
        for bias in [-MAX_BIAS, MAX_BIAS] {
            assert!(wrong(|r| r.logit_bias = [(1, bias)].into()).is_empty());
        }
        for bias in [101.0, f32::NAN, f32::NEG_INFINITY] {
            assert_eq!(wrong(|r| r.logit_bias = [(1, bias)].into()), ["logit_bias"]);
        }
        assert_eq!(
            wrong(|r| (r.min_tokens, r.max_tokens) = (3, 2)),
            ["min_tokens"]
        );
        let constrained = |r: &mut GenerateRequest| {
            r.constraint = Some(Constraint::default());
            r.ignore_eos = true;
            r.min_tokens = 1;
        };
        assert_eq!(wrong(constrained), ["min_tokens", "ignore_eos"]);
    }
}
