//! What is reported of many measurements.

use std::fmt;

/// Median and quartiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spread {
    median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    /// Of these, of which there is at least one.
    pub(super) fn of(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        let at = |quarter: usize| all[(all.len() - 1) * quarter / 4];
        Self {
            median: at(2),
            low: at(1),
            high: at(3),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, low, high } = self;
        write!(f, "{median:9.3}  ({low:.3} to {high:.3})")
    }
}
