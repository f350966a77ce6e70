//! How long sequences may be, and how much of a prompt is computed at once, by the memory that the worker may take.
//!
//! The engine computes a prompt at once, however long it is, and what that takes grows with its length. Where it is more
//! than the worker may have (RLIMIT_DATA), the engine gets the rest token by token: slower, and within the limit. What
//! the keys and values of a sequence take is bounded by its length only, which is the context.

use std::{fs, sync::OnceLock};

use rustix::process::{Resource, getrlimit};

use crate::{failure::Failure, inspect::SequenceNeed};

/// What a sequence may take.
#[derive(Debug)]
pub(super) struct SequenceMemory {
    /// `None`: it is the device's that counts.
    need: Option<SequenceNeed>,
    measured: OnceLock<Measured>,
}

/// What fits into memory, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Measured {
    /// The longest prompt that is computed at once.
    at_once: usize,
    /// The longest sequence.
    longest: usize,
}

/// A prompt of this length is always computed at once: it takes hardly more than a single token.
const LEAST: usize = 16;

/// A model that cannot answer in so many tokens is not served.
const LEAST_CONTEXT: usize = 512;

/// No context is longer.
const MOST: usize = 1 << 32;

impl SequenceMemory {
    /// Without bounds until it is measured.
    pub(super) fn new(need: Option<SequenceNeed>) -> Self {
        Self {
            need,
            measured: OnceLock::new(),
        }
    }

    /// Measures what the worker may still take, once: when the model has answered for the first time. Sequences are not to be
    /// longer than `context` anyway.
    ///
    /// # Errors
    ///
    /// When hardly any sequence fits.
    pub(super) fn measure(&self, context: usize) -> Result<(), Failure> {
        let Some(need) = &self.need else {
            return Ok(());
        };
        let Some(left) = left() else {
            tracing::info!("prompts are computed at once, however long they are");
            return Ok(());
        };
        let measured = Measured::of(need, left);
        let Measured { at_once, longest } = measured;
        tracing::info!(
            left,
            at_once,
            longest,
            "how long prompts may be that are computed at once, and sequences"
        );
        if longest < context.min(LEAST_CONTEXT) {
            return Err(no_room(left));
        }
        if longest < context {
            tracing::warn!(
                context,
                longest,
                "the worker's memory allows shorter sequences than the model and its spec do: free some, or give a larger memory_hint"
            );
        }
        // It is measured once.
        let _ = self.measured.set(measured);
        Ok(())
    }

    /// The longest prompt in tokens that is computed at once.
    pub(super) fn at_once(&self) -> usize {
        self.measured.get().map_or(usize::MAX, |it| it.at_once)
    }

    /// The longest sequence in tokens.
    pub(super) fn longest(&self) -> usize {
        self.measured.get().map_or(usize::MAX, |it| it.longest)
    }
}

impl Measured {
    /// What fits where so many bytes are left.
    fn of(need: &SequenceNeed, left: u64) -> Self {
        // An eighth is for all that is not a sequence's.
        let bytes = left - left / 8;
        let at_once = most(LEAST, |tokens| need.at_once(tokens) <= bytes);
        let longest = most(0, |tokens| {
            need.kept.while_it_grows(tokens, at_once as u64) <= bytes
        });
        Self { at_once, longest }
    }
}

/// The most tokens that fit, of which `least` do.
fn most(least: usize, fits: impl Fn(u64) -> bool) -> usize {
    let (mut most, mut beyond) = (least, MOST);
    while beyond - most > 1 {
        let middle = usize::midpoint(most, beyond);
        match fits(middle as u64) {
            true => most = middle,
            false => beyond = middle,
        }
    }
    most
}

fn no_room(left: u64) -> Failure {
    Failure::memory(format!(
        "The model was loaded, but the {} MiB that are left of what its worker may take are not enough to answer. \
         Give it a larger memory_hint, or none.",
        left >> 20
    ))
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
    use crate::inspect::KeptNeed;

    const NEED: SequenceNeed = SequenceNeed {
        per_token: 100,
        per_pair: 4,
        kept: KeptNeed {
            per_token: 10,
            per_token_in_window: 0,
            window: 0,
        },
    };

    #[bounded::test]
    fn what_is_computed_at_once_is_the_most_that_fits() {
        for left in [100_000, 1 << 20, 1 << 30, 1 << 35] {
            let Measured { at_once, longest } = Measured::of(&NEED, left);
            let bytes = left - left / 8;
            let (at_once, longest) = (at_once as u64, longest as u64);
            assert!(NEED.at_once(at_once) <= bytes);
            assert!(NEED.at_once(at_once + 1) > bytes);
            assert!(NEED.kept.while_it_grows(longest, at_once) <= bytes);
            assert!(NEED.kept.while_it_grows(longest + 1, at_once) > bytes);
        }
    }

    #[bounded::test]
    fn a_short_prompt_is_computed_at_once_whatever_there_is() {
        assert_eq!(Measured::of(&NEED, 0).at_once, LEAST);
    }

    #[bounded::test]
    fn windows_alone_allow_sequences_of_any_length() {
        let kept = KeptNeed {
            per_token: 0,
            per_token_in_window: 10,
            window: 1000,
        };
        let need = SequenceNeed { kept, ..NEED };
        assert_eq!(Measured::of(&need, 30_000).longest, MOST - 1);
        assert_eq!(Measured::of(&need, 10_000).longest, 0);
    }

    #[bounded::test]
    fn without_a_need_nothing_is_bounded() {
        let memory = SequenceMemory::new(None);
        assert_eq!(memory.measure(1 << 20), Ok(()));
        assert_eq!(
            (memory.at_once(), memory.longest()),
            (usize::MAX, usize::MAX)
        );
    }
}
