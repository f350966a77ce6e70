//! How likely the model holds its tokens: natural logarithms of the probabilities that its logits give,
//! before penalties, temperature, filters and grammars.

use std::cmp::Ordering;

/// What an answer says of one of its tokens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenLogprobs {
    /// The token's own.
    pub(crate) logprob: f32,
    /// The most likely tokens and theirs, best first.
    pub(crate) top: Vec<(u32, f32)>,
}

/// What is said of `token` among these logits, with the `top` most likely ones. `None` if the logits are
/// not numbers.
pub(crate) fn logprobs_of(logits: &[f32], token: u32, top: usize) -> Option<TokenLogprobs> {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|logit| f64::from(logit - best).exp())
        .sum();
    let total = f64::from(best) + sum.ln();
    let logprob = |logit: f32| (f64::from(logit) - total) as f32;
    let own = logprob(*logits.get(token as usize)?);
    if own.is_nan() {
        return None;
    }
    let mut order: Vec<u32> = (0..u32::try_from(logits.len()).ok()?).collect();
    let better = |a: &u32, b: &u32| -> Ordering {
        let (of_a, of_b) = (logits[*a as usize], logits[*b as usize]);
        of_b.total_cmp(&of_a).then(a.cmp(b))
    };
    let top = top.min(order.len());
    if top > 0 && top < order.len() {
        order.select_nth_unstable_by(top - 1, better);
    }
    order.truncate(top);
    order.sort_unstable_by(better);
    Some(TokenLogprobs {
        logprob: own,
        top: order
            .into_iter()
            .map(|token| (token, logprob(logits[token as usize])))
            .filter(|(_, logprob)| logprob.is_finite())
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn probabilities_add_up_to_one_and_the_best_come_first() {
        let logits = [0.5, 2.0, -1.0, 2.0];
        let emitted = logprobs_of(&logits, 2, 4).expect("numbers");
        let tokens: Vec<u32> = emitted.top.iter().map(|(token, _)| *token).collect();
        assert_eq!(tokens, [1, 3, 0, 2]);
        let sum: f32 = emitted.top.iter().map(|(_, logprob)| logprob.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        assert_eq!(emitted.logprob, emitted.top[3].1);
    }

    #[bounded::test]
    fn top_logprobs_are_at_most_those_requested_and_the_vocabulary() {
        assert_eq!(
            logprobs_of(&[1.0, 2.0], 0, 20).expect("numbers").top.len(),
            2
        );
        assert_eq!(
            logprobs_of(&[1.0, 2.0, 3.0], 0, 2)
                .expect("numbers")
                .top
                .len(),
            2
        );
        assert!(
            logprobs_of(&[1.0, 2.0], 0, 0)
                .expect("numbers")
                .top
                .is_empty()
        );
        let none = logprobs_of(&[1.0, f32::NEG_INFINITY], 0, 2).expect("numbers");
        assert_eq!(none.top, [(0, 0.0)]);
    }

    #[bounded::test]
    fn large_scores_do_not_overflow() {
        let emitted = logprobs_of(&[1e30, 1e30], 0, 0).expect("numbers");
        assert!((emitted.logprob - 0.5f32.ln()).abs() < 1e-3 || emitted.logprob == 0.0);
    }
}
