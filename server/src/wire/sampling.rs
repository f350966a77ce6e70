//! Sampling parameters as messages, both ways.

use hangar_client::v1;

use super::violations::Violations;
use crate::model::Sampling;

/// A sampling parameter, its value, which values are right, and how that is said.
type SamplingRange = (&'static str, Option<f32>, fn(f32) -> bool, &'static str);

impl Violations {
    /// Sampling parameters, each in its range.
    pub fn sampling(&mut self, prefix: &str, message: Option<&v1::Sampling>) -> Sampling {
        let sampling = sampling_of(message.copied().unwrap_or_default());
        self.check_sampling(prefix, &sampling);
        sampling
    }

    /// Takes note of the parameters that are not in their range.
    pub fn check_sampling(&mut self, prefix: &str, sampling: &Sampling) {
        for (name, value, right, what) in sampling_ranges(sampling) {
            if value.is_some_and(|value| !right(value)) {
                self.add(format!("{prefix}.{name}"), what);
            }
        }
    }
}

fn sampling_of(message: v1::Sampling) -> Sampling {
    Sampling {
        temperature: message.temperature,
        top_p: message.top_p,
        top_k: message.top_k,
        min_p: message.min_p,
        frequency_penalty: message.frequency_penalty,
        presence_penalty: message.presence_penalty,
        repetition_penalty: message.repetition_penalty,
    }
}

/// How the next token is chosen.
pub fn sampling(sampling: &Sampling) -> v1::Sampling {
    v1::Sampling {
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        min_p: sampling.min_p,
        frequency_penalty: sampling.frequency_penalty,
        presence_penalty: sampling.presence_penalty,
        repetition_penalty: sampling.repetition_penalty,
    }
}

fn sampling_ranges(sampling: &Sampling) -> [SamplingRange; 6] {
    let bias: fn(f32) -> bool = |x| (-2.0..=2.0).contains(&x);
    [
        (
            "temperature",
            sampling.temperature,
            |x| (0.0..=2.0).contains(&x),
            "must be from 0 to 2",
        ),
        (
            "top_p",
            sampling.top_p,
            |x| x > 0.0 && x <= 1.0,
            "must be above 0 and at most 1",
        ),
        (
            "min_p",
            sampling.min_p,
            |x| (0.0..=1.0).contains(&x),
            "must be from 0 to 1",
        ),
        (
            "frequency_penalty",
            sampling.frequency_penalty,
            bias,
            "must be from -2 to 2",
        ),
        (
            "presence_penalty",
            sampling.presence_penalty,
            bias,
            "must be from -2 to 2",
        ),
        (
            "repetition_penalty",
            sampling.repetition_penalty,
            |x| x > 0.0 && x <= 2.0,
            "must be above 0 and at most 2",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_outside_its_ranges_is_refused_and_nan_with_it() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -3.0, 3.0] {
            let sampling = v1::Sampling {
                temperature: Some(bad),
                top_p: Some(bad),
                top_k: None,
                min_p: Some(bad),
                frequency_penalty: Some(bad),
                presence_penalty: Some(bad),
                repetition_penalty: Some(bad),
            };
            let mut violations = Violations::default();
            violations.sampling("sampling", Some(&sampling));
            assert_eq!(violations.all().len(), 6, "{bad}");
        }
        let mut violations = Violations::default();
        let edges = v1::Sampling {
            temperature: Some(0.0),
            top_p: Some(1.0),
            ..v1::Sampling::default()
        };
        violations.sampling("sampling", Some(&edges));
        assert_eq!(violations.all(), []);
    }
}
