//! Chooses the next token from the model's logits.
//!
//! Hangar does this itself: the engine applies `min_p` only together with `top_p`, counts penalties over
//! the prompt too, does not check ranges, and does not report which token it chose. The order is penalties,
//! temperature, `top_k`, `top_p`, `min_p`, as in the reference implementations.

use std::collections::HashMap;

use hangar_client::v1::Sampling;
use mistralrs::core::ModelGenerationDefaults;

/// Temperatures below this choose the most likely token.
const GREEDY_BELOW: f32 = 1e-7;

/// How tokens are chosen; every value is within its range.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SamplingRules {
    temperature: f32,
    top_p: f32,
    top_k: usize,
    min_p: f32,
    frequency_penalty: f32,
    presence_penalty: f32,
    repetition_penalty: f32,
}

/// Chooses the tokens of one answer.
#[derive(Debug)]
pub(crate) struct TokenSampler {
    rules: SamplingRules,
    random: fastrand::Rng,
    /// How often each token of prompt and answer occurred in the answer.
    occurred: HashMap<u32, u32>,
}

/// The model gave no logits to choose from.
#[derive(Debug, thiserror::Error)]
#[error("the model's scores are not numbers")]
pub(crate) struct NoLogits;

impl SamplingRules {
    /// Always the most likely token.
    pub(crate) fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            repetition_penalty: 1.0,
        }
    }

    /// What the request says, else what the model's generation config says, else the defaults that
    /// `hangar.v1.Sampling` documents. Values out of range are moved to its end.
    pub(crate) fn resolve(
        request: Option<&Sampling>,
        model: Option<&ModelGenerationDefaults>,
    ) -> Self {
        let request = request.cloned().unwrap_or_default();
        let model = model.cloned().unwrap_or_default();
        let greedy = (model.do_sample == Some(false)).then_some(0.0);
        let temperature = request
            .temperature
            .or(greedy)
            .or(model.temperature.map(|value| value as f32));
        let top_p = request.top_p.or(model.top_p.map(|value| value as f32));
        let top_k = request.top_k.map(|value| value as usize).or(model.top_k);
        let min_p = request.min_p.or(model.min_p.map(|value| value as f32));
        let repetition = request.repetition_penalty.or(model.repetition_penalty);
        Self {
            temperature: within(temperature, 0.0, 2.0, 1.0),
            top_p: within(top_p, f32::MIN_POSITIVE, 1.0, 1.0),
            top_k: top_k.unwrap_or(0),
            min_p: within(min_p, 0.0, 1.0, 0.0),
            frequency_penalty: within(request.frequency_penalty, -2.0, 2.0, 0.0),
            presence_penalty: within(request.presence_penalty, -2.0, 2.0, 0.0),
            repetition_penalty: within(repetition, f32::MIN_POSITIVE, 2.0, 1.0),
        }
    }

    fn penalizes_nothing(&self) -> bool {
        let none = self.frequency_penalty == 0.0 && self.presence_penalty == 0.0;
        none && self.repetition_penalty == 1.0
    }

    fn is_greedy(&self) -> bool {
        self.temperature < GREEDY_BELOW
    }
}

impl TokenSampler {
    /// Chooses by these rules after this prompt. With a seed, the same logits give the same tokens.
    pub(crate) fn new(rules: SamplingRules, prompt: &[u32], seed: Option<u64>) -> Self {
        let occurred = if rules.repetition_penalty == 1.0 {
            HashMap::new()
        } else {
            prompt.iter().map(|token| (*token, 0)).collect()
        };
        Self {
            rules,
            random: seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
            occurred,
        }
    }

    /// Chooses a token. `logits` holds one for each token and is used as working space.
    pub(crate) fn choose(&mut self, logits: &mut [f32]) -> Result<u32, NoLogits> {
        self.penalize(logits);
        let best = most_likely(logits)?;
        let token = if self.rules.is_greedy() {
            best
        } else {
            self.draw(logits, logits[best])
        };
        let token = u32::try_from(token).map_err(|_| NoLogits)?;
        if !self.rules.penalizes_nothing() {
            *self.occurred.entry(token).or_default() += 1;
        }
        Ok(token)
    }

    fn penalize(&self, logits: &mut [f32]) {
        let rules = &self.rules;
        if rules.penalizes_nothing() {
            return;
        }
        for (token, occurrences) in &self.occurred {
            let Some(logit) = logits.get_mut(*token as usize) else {
                continue;
            };
            if *occurrences > 0 {
                *logit -= rules.frequency_penalty * *occurrences as f32;
                *logit -= rules.presence_penalty;
            }
            if *logit > 0.0 && logit.is_finite() {
                // The smallest penalties would make an infinity of it.
                *logit = (*logit / rules.repetition_penalty).min(f32::MAX);
            } else {
                *logit *= rules.repetition_penalty;
            }
        }
    }

    /// Draws one of the tokens that the rules leave, each as often as the model says.
    fn draw(&mut self, logits: &[f32], best: f32) -> usize {
        let scale = f64::from(self.rules.temperature);
        let weight = |logit: f32| (f64::from(logit - best) / scale).exp();
        // Relative to the most likely token, whose weight is 1.
        let mut candidates: Vec<(usize, f64)> = logits
            .iter()
            .enumerate()
            .map(|(token, logit)| (token, weight(*logit)))
            .filter(|(_, weight)| *weight > 0.0)
            .collect();
        let (top_k, top_p) = (self.rules.top_k, f64::from(self.rules.top_p));
        let by_weight =
            |a: &(usize, f64), b: &(usize, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if top_k > 0 && top_k < candidates.len() {
            candidates.select_nth_unstable_by(top_k - 1, by_weight);
            candidates.truncate(top_k);
        }
        if top_p < 1.0 {
            candidates.sort_unstable_by(by_weight);
            keep_most_likely(&mut candidates, top_p);
        }
        let min_p = f64::from(self.rules.min_p);
        candidates.retain(|(_, weight)| *weight >= min_p);
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        let mut at = self.random.f64() * total;
        for (token, weight) in &candidates {
            at -= weight;
            if at < 0.0 {
                return *token;
            }
        }
        // Only rounding leads here.
        candidates.last().map_or(0, |(token, _)| *token)
    }
}

/// Keeps the fewest candidates, sorted by weight, that make up `share` of all.
fn keep_most_likely(candidates: &mut Vec<(usize, f64)>, share: f64) {
    let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
    let mut sum = 0.0;
    let enough = candidates.iter().position(|(_, weight)| {
        sum += weight;
        sum >= share * total
    });
    candidates.truncate(enough.map_or(candidates.len(), |last| last + 1));
}

/// The first of the tokens with the highest logit.
fn most_likely(logits: &[f32]) -> Result<usize, NoLogits> {
    let mut best: Option<(usize, f32)> = None;
    for (token, logit) in logits.iter().enumerate() {
        if logit.is_nan() || *logit == f32::INFINITY {
            return Err(NoLogits);
        }
        if best.is_none_or(|(_, highest)| *logit > highest) {
            best = Some((token, *logit));
        }
    }
    match best {
        Some((token, logit)) if logit.is_finite() => Ok(token),
        _ => Err(NoLogits),
    }
}

fn within(value: Option<f32>, low: f32, high: f32, default: f32) -> f32 {
    match value {
        Some(value) if !value.is_nan() => value.clamp(low, high),
        _ => default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(change: impl FnOnce(&mut SamplingRules)) -> TokenSampler {
        let mut rules = SamplingRules::resolve(None, None);
        change(&mut rules);
        TokenSampler::new(rules, &[], Some(1))
    }

    /// Tokens that are chosen in 2,000 draws from the same logits.
    fn chosen(mut sampler: TokenSampler, logits: &[f32]) -> Vec<u32> {
        let mut all: Vec<u32> = (0..2000)
            .map(|_| {
                sampler.occurred.clear();
                sampler.choose(&mut logits.to_vec()).expect("scores")
            })
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    #[bounded::test]
    fn greedy_takes_the_first_of_the_most_likely() {
        let mut sampler = TokenSampler::new(SamplingRules::greedy(), &[], None);
        assert_eq!(sampler.choose(&mut [1.0, 3.0, 3.0]).expect("scores"), 1);
    }

    #[bounded::test]
    fn the_smallest_penalty_leaves_numbers() {
        let mut sampler = sampler(|rules| rules.repetition_penalty = f32::MIN_POSITIVE);
        for _ in 0..2 {
            let chosen = sampler.choose(&mut [1.0, 50.0, -50.0]);
            assert_eq!(chosen.expect("numbers"), 1);
        }
    }

    #[bounded::test]
    fn every_field_comes_from_the_request_then_the_model_then_the_default() {
        let model = ModelGenerationDefaults {
            temperature: Some(0.5),
            top_p: Some(0.5),
            top_k: Some(7),
            min_p: Some(0.5),
            repetition_penalty: Some(1.5),
            ..ModelGenerationDefaults::default()
        };
        let request = Sampling {
            temperature: Some(0.25),
            top_p: Some(0.25),
            top_k: Some(3),
            min_p: Some(0.25),
            frequency_penalty: Some(0.25),
            presence_penalty: Some(0.25),
            repetition_penalty: Some(1.25),
        };
        let fields = |rules: SamplingRules| {
            let penalties = [rules.frequency_penalty, rules.presence_penalty];
            let filters = [rules.temperature, rules.top_p, rules.min_p];
            (filters, rules.top_k, penalties, rules.repetition_penalty)
        };
        let resolved = |request, model| fields(SamplingRules::resolve(request, model));
        let (asked, own) = (Some(&request), Some(&model));
        assert_eq!(
            resolved(asked, own),
            ([0.25; 3], 3, [0.25; 2], 1.25),
            "the request"
        );
        assert_eq!(
            resolved(None, own),
            ([0.5; 3], 7, [0.0; 2], 1.5),
            "the model"
        );
        let default = ([1.0, 1.0, 0.0], 0, [0.0; 2], 1.0);
        assert_eq!(resolved(None, None), default, "the default");
        let greedy = ModelGenerationDefaults {
            do_sample: Some(false),
            ..model
        };
        assert!(SamplingRules::resolve(None, Some(&greedy)).is_greedy());
        assert!(!SamplingRules::resolve(asked, Some(&greedy)).is_greedy());
    }

    #[bounded::test]
    fn a_model_that_does_not_sample_is_greedy_unless_asked() {
        let model = ModelGenerationDefaults {
            do_sample: Some(false),
            temperature: Some(0.7),
            ..ModelGenerationDefaults::default()
        };
        assert!(SamplingRules::resolve(None, Some(&model)).is_greedy());
        let request = Sampling {
            temperature: Some(1.5),
            ..Sampling::default()
        };
        assert!(!SamplingRules::resolve(Some(&request), Some(&model)).is_greedy());
    }

    #[bounded::test]
    fn values_out_of_range_are_moved_into_it() {
        let request = Sampling {
            temperature: Some(-1.0),
            top_p: Some(7.0),
            min_p: Some(f32::NAN),
            ..Sampling::default()
        };
        let rules = SamplingRules::resolve(Some(&request), None);
        assert_eq!(
            (rules.temperature, rules.top_p, rules.min_p),
            (0.0, 1.0, 0.0)
        );
    }

    #[bounded::test]
    fn top_k_top_p_and_min_p_leave_the_most_likely() {
        let logits = [0.0, 2.0, 1.0, -1.0];
        assert_eq!(chosen(sampler(|_| ()), &logits), [0, 1, 2, 3]);
        assert_eq!(chosen(sampler(|rules| rules.top_k = 2), &logits), [1, 2]);
        assert_eq!(chosen(sampler(|rules| rules.top_p = 0.5), &logits), [1]);
        assert_eq!(chosen(sampler(|rules| rules.min_p = 0.3), &logits), [1, 2]);
        assert_eq!(chosen(sampler(|rules| rules.min_p = 1.0), &logits), [1]);
    }

    #[bounded::test]
    fn frequencies_follow_the_scores() {
        let mut sampler = sampler(|_| ());
        let logits = [0.0, 3.0f32.ln()];
        let draws = 20_000;
        let ones: u32 = (0..draws)
            .map(|_| sampler.choose(&mut logits.to_vec()).expect("scores"))
            .sum();
        let share = f64::from(ones) / f64::from(draws);
        assert!((share - 0.75).abs() < 0.02, "{share}");
    }

    #[bounded::test]
    fn a_seed_repeats_an_answer() {
        let draw = || {
            let mut sampler = TokenSampler::new(SamplingRules::resolve(None, None), &[], Some(42));
            (0..50)
                .map(|_| sampler.choose(&mut [0.0; 100]).expect("scores"))
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(), draw());
    }

    #[bounded::test]
    fn frequency_and_presence_count_in_the_answer_only() {
        let rules = SamplingRules {
            frequency_penalty: 1.0,
            presence_penalty: 1.0,
            ..SamplingRules::greedy()
        };
        let mut sampler = TokenSampler::new(rules, &[1], None);
        let logits = [0.0, 1.5];
        let mut next = || sampler.choose(&mut logits.to_vec()).expect("scores");
        assert_eq!([next(), next(), next()], [1, 0, 1]);
    }

    #[bounded::test]
    fn repetition_counts_in_the_prompt_too() {
        let rules = SamplingRules {
            repetition_penalty: 2.0,
            ..SamplingRules::greedy()
        };
        let mut sampler = TokenSampler::new(rules, &[1], None);
        assert_eq!(sampler.choose(&mut [1.0, 1.5]).expect("scores"), 0);
    }

    #[bounded::test]
    fn scores_that_are_no_numbers_are_an_error() {
        const INFINITE: f32 = f32::INFINITY;
        for logits in [&[0.0, f32::NAN][..], &[INFINITE, 0.0], &[-INFINITE; 2], &[]] {
            let mut sampler = TokenSampler::new(SamplingRules::greedy(), &[], None);
            assert!(sampler.choose(&mut logits.to_vec()).is_err());
        }
    }
}
