//! What is wrong with a message. All of it is reported at once, as far as it fits.

use std::time::Duration;

use hangar_client::v1;

use super::sampling::read_sampling;
use crate::model::{ModelId, Sampling};

/// Longest wait, drain or time-out that a request may ask for.
const MAX_DURATION: Duration = Duration::from_secs(7 * 24 * 3600);

/// Violations that an error names: many more would not fit into the end of a call, and a request can have
/// millions.
const MAX_VIOLATIONS: usize = 32;

/// Stop texts of a request, and bytes of each.
const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 256;

/// Longest request id in bytes.
pub const MAX_REQUEST_ID: usize = 128;

/// Aliases of a model.
const MAX_ALIASES: usize = 16;

/// What is wrong with a request, as far as it is known.
#[derive(Debug, Default)]
pub struct Violations(Vec<(String, String)>);

/// Fields that are wrong, each with what is wrong about it.
#[derive(Debug)]
pub struct InvalidFields(pub Vec<(String, String)>);

impl Violations {
    /// Takes note that `field` is wrong, unless so much is wrong already that no more of it is reported.
    pub fn add(&mut self, field: impl Into<String>, what: impl Into<String>) {
        if self.0.len() < MAX_VIOLATIONS {
            self.0.push((field.into(), what.into()));
        }
    }

    /// Takes note that `field` is wrong unless `right`.
    pub fn check(&mut self, right: bool, field: &str, what: &str) {
        if !right {
            self.add(field, what);
        }
    }

    /// Takes note of an error, if `result` is one.
    pub fn check_result<T, E: ToString>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result
            .map_err(|error| self.add(field, error.to_string()))
            .ok()
    }

    /// Nothing, or all that is wrong.
    pub fn finish(self) -> Result<(), InvalidFields> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(InvalidFields(self.0)),
        }
    }

    /// All fields that are wrong, each with what is wrong about it.
    #[cfg(test)]
    pub fn all(self) -> Vec<(String, String)> {
        self.0
    }

    /// A length of time of at least `min` and at most a week; `None` when it is not given or wrong.
    pub fn duration(
        &mut self,
        field: &str,
        duration: Option<prost_types::Duration>,
        min: Duration,
    ) -> Option<Duration> {
        self.duration_within(field, duration, min, MAX_DURATION)
    }

    /// A length of time of at least `min` and at most `max`; `None` when it is not given or wrong.
    pub fn duration_within(
        &mut self,
        field: &str,
        duration: Option<prost_types::Duration>,
        min: Duration,
        max: Duration,
    ) -> Option<Duration> {
        let given = duration?;
        // The least number of seconds cannot be negated, which the conversion does.
        let duration = (given.seconds >= 0).then(|| Duration::try_from(given));
        match duration {
            Some(Ok(duration)) if duration >= min && duration <= max => Some(duration),
            _ => {
                let (min, max) = (min.as_secs_f64(), humantime::format_duration(max));
                self.add(field, format!("must be from {min} s to {max}"));
                None
            }
        }
    }

    /// A model's id.
    pub fn model_id(&mut self, field: &str, id: &str) -> Option<ModelId> {
        if id.is_empty() {
            self.add(field, "is required");
            return None;
        }
        self.check_result(field, ModelId::parse(id))
    }

    /// Other names of the model `id`.
    pub fn aliases(
        &mut self,
        field: &str,
        aliases: &[String],
        id: Option<&ModelId>,
    ) -> Vec<ModelId> {
        self.check(
            aliases.len() <= MAX_ALIASES,
            field,
            "must have at most 16 entries",
        );
        let mut parsed = Vec::new();
        for (n, alias) in aliases.iter().take(MAX_ALIASES).enumerate() {
            let field = format!("{field}[{n}]");
            let Some(alias) = self.model_id(&field, alias) else {
                continue;
            };
            self.check(Some(&alias) != id, &field, "is the model's own id");
            self.check(!parsed.contains(&alias), &field, "is given twice");
            parsed.push(alias);
        }
        parsed
    }

    /// A request's id.
    pub fn request_id(&mut self, id: &str) {
        self.check(
            id.len() <= MAX_REQUEST_ID,
            "request_id",
            "must have at most 128 characters",
        );
    }

    /// Sampling parameters, each in its range.
    pub fn sampling(&mut self, prefix: &str, message: Option<&v1::Sampling>) -> Sampling {
        let sampling = read_sampling(message.copied().unwrap_or_default());
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

    /// Stop texts.
    pub fn stops(&mut self, field: &str, stops: &[String]) {
        self.check(
            stops.len() <= MAX_STOPS,
            field,
            "must have at most 16 entries",
        );
        for (n, stop) in stops.iter().take(MAX_STOPS).enumerate() {
            let right = !stop.is_empty() && stop.len() <= MAX_STOP_BYTES;
            self.check(
                right,
                &format!("{field}[{n}]"),
                "must have from 1 to 256 bytes",
            );
        }
    }
}

/// A sampling parameter, its value, which values are right, and how that is put into words.
type SamplingRange = (&'static str, Option<f32>, fn(f32) -> bool, &'static str);

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

    #[bounded::test]
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
        assert!(violations.all().is_empty());
    }

    #[bounded::test]
    fn of_too_many_stops_no_more_are_looked_at_than_there_may_be() {
        let mut violations = Violations::default();
        violations.stops("stop", &vec![String::new(); MAX_VIOLATIONS]);
        assert_eq!(violations.all().len(), 1 + MAX_STOPS);
    }

    #[bounded::test]
    fn durations_are_bounded_on_both_sides() {
        let mut violations = Violations::default();
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        assert_eq!(
            violations.duration("a", seconds(5), Duration::ZERO),
            Some(Duration::from_secs(5))
        );
        assert_eq!(violations.duration("a", None, Duration::ZERO), None);
        assert!(violations.0.is_empty());
        for bad in [-1, 0, 8 * 24 * 3600, i64::MAX, i64::MIN] {
            assert_eq!(
                violations.duration("a", seconds(bad), Duration::from_secs(1)),
                None,
                "{bad}"
            );
        }
        assert_eq!(violations.0.len(), 5);
    }
}
