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
    at_once: OnceLock<usize>,
}

/// A prompt of this length is always computed at once: it takes hardly more than a single token.
const LEAST: usize = 16;

/// No context is longer.
const MOST: usize = 1 << 32;

impl PrefillMemory {
    /// Without bounds until it is measured.
    pub(super) fn new(need: Option<PrefillNeed>) -> Self {
        Self {
            need,
            at_once: OnceLock::new(),
        }
    }

    /// Measures what the worker may still take, once: when the model has answered for the first time.
    pub(super) fn measure(&self) {
        let Some(need) = &self.need else {
            return;
        };
        match left() {
            Some(left) => {
                // An eighth is for all that is not a prompt's.
                let at_once = longest(need, left - left / 8);
                tracing::info!(
                    left,
                    at_once,
                    "how long prompts may be that are computed at once"
                );
                // It is measured once.
                let _ = self.at_once.set(at_once);
            }
            None => tracing::info!("prompts are computed at once, however long they are"),
        }
    }

    /// The longest prompt in tokens that is computed at once.
    pub(super) fn at_once(&self) -> usize {
        self.at_once.get().copied().unwrap_or(usize::MAX)
    }
}

/// The longest prompt that takes at most `bytes` at once.
fn longest(need: &PrefillNeed, bytes: u64) -> usize {
    let (mut at_once, mut beyond) = (LEAST, MOST);
    while beyond - at_once > 1 {
        let middle = usize::midpoint(at_once, beyond);
        match need.at_once(middle as u64) <= bytes {
            true => at_once = middle,
            false => beyond = middle,
        }
    }
    at_once
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
        for bytes in [100_000, 1 << 20, 1 << 30, 1 << 40] {
            let longest = longest(&NEED, bytes) as u64;
            assert!(NEED.at_once(longest) <= bytes);
            assert!(NEED.at_once(longest + 1) > bytes);
        }
    }

    #[bounded::test]
    fn a_short_prompt_is_computed_at_once_whatever_there_is() {
        assert_eq!(longest(&NEED, 0), LEAST);
    }

    #[bounded::test]
    fn without_a_need_nothing_is_bounded() {
        let memory = PrefillMemory::new(None);
        memory.measure();
        assert_eq!(memory.at_once(), usize::MAX);
    }
}
