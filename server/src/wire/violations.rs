//! What is wrong with a message. All of it is reported at once, as far as it fits.

use std::time::Duration;

/// Longest wait, drain or time-out that a request may ask for.
const MAX_DURATION: Duration = Duration::from_secs(7 * 24 * 3600);

/// Violations that an error names: many more would not fit into the end of a call, and a request can have
/// millions.
const MAX_VIOLATIONS: usize = 32;

/// Stop texts of a request, and bytes of each.
const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 256;

/// What is wrong with a request.
#[derive(Debug, Default)]
pub struct Violations(Vec<(String, String)>);

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
    pub fn note<T, E: ToString>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result
            .map_err(|error| self.add(field, error.to_string()))
            .ok()
    }

    /// All fields that are wrong, each with what is wrong about it.
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

    /// Stop texts.
    pub fn stops(&mut self, field: &str, stops: &[String]) {
        self.check(
            stops.len() <= MAX_STOPS,
            field,
            "must have at most 16 entries",
        );
        for (n, stop) in stops.iter().enumerate() {
            let right = !stop.is_empty() && stop.len() <= MAX_STOP_BYTES;
            self.check(
                right,
                &format!("{field}[{n}]"),
                "must have from 1 to 256 bytes",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
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
