//! What an embedding model's vectors need beyond what the engine computes: the mean in place of the sum, length one, and
//! what it is given for a single token.

use crate::inspect::{Inspection, Modules, Pooling};

/// What is done with the tokens before the engine gets them, and with the vectors that it gives.
#[derive(Debug)]
pub(crate) struct Embedder {
    /// Numbers in a vector.
    size: usize,
    /// The engine gives the sum of the tokens' vectors where their mean is wanted.
    sums: bool,
    /// Vectors have length one.
    unit: bool,
    /// The engine cannot take a single token.
    twice: bool,
    /// Tokens of the longest text, and the field that says so.
    longest: Option<(u32, String)>,
}

/// Architectures whose tokens see those before them only.
const CAUSAL: [&str; 2] = ["Qwen3ForCausalLM", "Qwen3Model"];

impl Embedder {
    /// That of the inspected model, if it is one for embeddings.
    pub(crate) fn of(inspection: &Inspection) -> Option<Self> {
        let modules = inspection.modules()?;
        Some(Self {
            twice: CAUSAL.contains(&inspection.metadata.architecture.as_str()),
            ..Self::new(modules)
        })
    }

    fn new(modules: &Modules) -> Self {
        Self {
            size: modules.size as usize,
            sums: modules.pooling == Pooling::Mean && !modules.scaled,
            unit: modules.unit,
            twice: false,
            longest: modules.longest.clone(),
        }
    }

    /// The field by which a text has no more than so many tokens, if it is one of the library's.
    pub(super) fn bound(&self, context: usize) -> Option<&str> {
        let longest = self.longest.as_ref();
        let longest = longest.filter(|longest| longest.0 as usize == context);
        longest.map(|longest| longest.1.as_str())
    }

    /// The tokens that the engine gets for a text of these.
    pub(super) fn engine_tokens(&self, mut tokens: Vec<u32>) -> Vec<u32> {
        // The engine panics on a single token where each token sees those before it only. Twice the same one
        // gives the same vector in both places: what is attended to is the same in each.
        if self.twice && tokens.len() == 1 {
            tokens.extend_from_within(..);
        }
        tokens
    }

    /// The vector of a text, from what the engine made of so many `engine_tokens`. The error says what is wrong with it.
    pub(super) fn finish(&self, made: Vec<f32>, engine_tokens: usize) -> Result<Vec<f32>, String> {
        if made.len() != self.size {
            return Err(format!(
                "the engine made a vector of {} numbers in place of {}",
                made.len(),
                self.size
            ));
        }
        let squares: f64 = made.iter().map(|x| f64::from(*x).powi(2)).sum();
        if !squares.is_finite() {
            return Err("the engine made a vector that is not finite".into());
        }
        let scale = match (self.unit, self.sums) {
            (true, _) if squares == 0.0 => {
                return Err("the engine made a vector of nothing but zeros".into());
            }
            (true, _) => squares.sqrt().recip(),
            #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
            (false, true) => (engine_tokens as f64).recip(),
            (false, false) => return Ok(made),
        };
        #[allow(clippy::cast_possible_truncation, reason = "back to what it was")]
        let scaled = made.iter().map(|x| (f64::from(*x) * scale) as f32);
        Ok(scaled.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Embedder = Embedder {
        size: 2,
        sums: false,
        unit: false,
        twice: false,
        longest: None,
    };

    #[bounded::test]
    fn vectors_are_scaled_as_the_model_wants_it() {
        let made = || vec![3.0, -4.0];
        assert_eq!(PLAIN.finish(made(), 5), Ok(made()));
        let unit = Embedder {
            unit: true,
            sums: true,
            ..PLAIN
        };
        assert_eq!(unit.finish(made(), 5), Ok(vec![0.6, -0.8]));
        let mean = Embedder {
            sums: true,
            ..PLAIN
        };
        assert_eq!(mean.finish(made(), 2), Ok(vec![1.5, -2.0]));
    }

    #[bounded::test]
    fn a_vector_without_usable_numbers_is_an_error() {
        let unit = Embedder {
            unit: true,
            ..PLAIN
        };
        for wrong in [
            vec![f32::NAN, 1.0],
            vec![1.0, f32::INFINITY],
            vec![0.0, 0.0],
            vec![1.0],
            vec![],
        ] {
            assert!(unit.finish(wrong.clone(), 1).is_err(), "{wrong:?}");
        }
        // Numbers whose squares no F32 holds are still numbers.
        let large = unit.finish(vec![1e30, 0.0], 1).expect("a vector");
        assert_eq!(large, [1.0, 0.0]);
    }

    #[bounded::test]
    fn a_causal_model_gets_a_single_token_twice() {
        let causal = Embedder {
            twice: true,
            ..PLAIN
        };
        assert_eq!(causal.engine_tokens(vec![7]), [7, 7]);
        assert_eq!(causal.engine_tokens(vec![7, 8]), [7, 8]);
        assert_eq!(PLAIN.engine_tokens(vec![7]), [7]);
    }
}
