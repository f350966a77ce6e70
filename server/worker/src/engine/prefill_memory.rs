//! How much of a prompt is computed at once, by the memory that the worker may take.
//!
//! The engine computes a prompt at once, however long it is, and what that takes grows with its length. Where it is more
//! than the worker may have (RLIMIT_DATA), the engine gets the rest token by token: slower, and within the limit.

use std::{fs, sync::OnceLock};

use rustix::process::{Resource, getrlimit};

use crate::inspect::PrefillNeed;

/// What a prompt may take.
#[derive(Debug)]
pub(super) struct PrefillMemory {
    /// `None`: it is the device's that counts.
    need: Option<PrefillNeed>,
    bounds: OnceLock<PrefillBounds>,
}

/// Lengths of prompts in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PrefillBounds {
    /// The longest that is computed at once.
    pub(super) at_once: usize,
    /// The longest that is computed at all.
    pub(super) in_all: usize,
}

/// A prompt of this length is always computed at once: it takes hardly more than a single token.
const LEAST: usize = 16;

impl PrefillMemory {
    /// Without bounds until they are measured.
    pub(super) fn new(need: Option<PrefillNeed>) -> Self {
        Self {
            need,
            bounds: OnceLock::new(),
        }
    }

    /// Measures what the worker may still take, once: when the model has answered for the first time.
    pub(super) fn measure(&self) {
        if let (Some(need), Some(left)) = (&self.need, left()) {
            // An eighth is for all that is not a prompt's.
            let bounds = PrefillBounds::of(need, left - left / 8);
            let PrefillBounds { at_once, in_all } = *self.bounds.get_or_init(|| bounds);
            tracing::info!(left, at_once, in_all, "how long prompts may be, by memory");
        }
    }

    /// The bounds, once they are measured.
    pub(super) fn bounds(&self) -> PrefillBounds {
        let unbounded = PrefillBounds {
            at_once: usize::MAX,
            in_all: usize::MAX,
        };
        self.bounds.get().copied().unwrap_or(unbounded)
    }
}

impl PrefillBounds {
    /// Those of prompts that take at most `bytes`.
    fn of(need: &PrefillNeed, bytes: u64) -> Self {
        let fits = |tokens: usize| need.at_once(tokens as u64) <= bytes;
        // No context is longer.
        let (mut at_once, mut beyond) = (LEAST, 1 << 32);
        while beyond - at_once > 1 {
            let middle = usize::midpoint(at_once, beyond);
            match fits(middle) {
                true => at_once = middle,
                false => beyond = middle,
            }
        }
        let in_all = bytes.checked_div(need.kept_per_token);
        Self {
            at_once,
            in_all: in_all
                .map_or(usize::MAX, |tokens| tokens as usize)
                .max(at_once),
        }
    }
}

/// Private memory that this process may still take, in bytes; `None`: without a limit, or nobody knows.
fn left() -> Option<u64> {
    let most = getrlimit(Resource::Data).current?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let taken = status
        .lines()
        .find_map(|line| line.strip_prefix("VmData:"))?;
    let taken: u64 = taken.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(most.saturating_sub(taken.saturating_mul(1024)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEED: PrefillNeed = PrefillNeed {
        per_token: 100,
        per_pair: 4,
        kept_per_token: 10,
    };

    #[bounded::test]
    fn what_is_computed_at_once_is_the_most_that_fits() {
        for bytes in [10_000, 1 << 20, 1 << 30, 1 << 40] {
            let bounds = PrefillBounds::of(&NEED, bytes);
            let longest = bounds.at_once as u64;
            assert!(NEED.at_once(longest) <= bytes);
            assert!(NEED.at_once(longest + 1) > bytes);
            assert_eq!(bounds.in_all as u64, (bytes / 10).max(longest));
        }
    }

    #[bounded::test]
    fn a_short_prompt_is_computed_whatever_there_is() {
        let bounds = PrefillBounds::of(&NEED, 0);
        assert_eq!((bounds.at_once, bounds.in_all), (LEAST, LEAST));
        let huge = PrefillNeed {
            per_token: u64::MAX,
            per_pair: u64::MAX,
            kept_per_token: 0,
        };
        assert_eq!(PrefillBounds::of(&huge, 1).in_all, usize::MAX);
    }

    #[bounded::test]
    fn without_a_need_nothing_is_bounded() {
        let memory = PrefillMemory::new(None);
        memory.measure();
        assert_eq!(memory.bounds().at_once, usize::MAX);
    }
}
