//! Tokens of answers: how many at all, and how many in each of the last seconds.
//!
//! Invariant: counting takes neither a lock nor memory, so that it can be done for each token. A slot
//! belongs to one second at a time, and slot and count change together.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::window::WINDOW_SECONDS;

/// Counts tokens. Takes 512 bytes from the first token on.
#[derive(Debug, Default)]
pub(super) struct TokenRing {
    total: AtomicU64,
    /// The second in the upper half, its tokens in the lower one.
    seconds: OnceLock<Box<[AtomicU64; SLOTS]>>,
}

/// More than the seconds of the window, so that a slot is not looked at while it changes its second.
const SLOTS: usize = 64;

impl TokenRing {
    /// So many tokens came in this second.
    pub(super) fn add(&self, second: u32, tokens: u32) {
        self.total.fetch_add(tokens.into(), Relaxed);
        let slots = self.seconds.get_or_init(|| {
            let none = [const { AtomicU64::new(0) }; SLOTS];
            Box::new(none)
        });
        let slot = &slots[second as usize % SLOTS];
        // A slot that belongs to a later second already stays: nobody asks for this one any more.
        let _ = slot.fetch_update(Relaxed, Relaxed, |packed| match unpack(packed) {
            (of, counted) if of == second => Some(pack(second, counted.saturating_add(tokens))),
            (of, _) if of < second => Some(pack(second, tokens)),
            _ => None,
        });
    }

    /// All tokens.
    pub(super) fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// Tokens of the seconds of the window that ends with this one.
    pub(super) fn window(&self, second: u32) -> u64 {
        let slots = self.seconds.get().map_or(&[][..], |slots| &slots[..]);
        let counted = slots.iter().map(|slot| unpack(slot.load(Relaxed)));
        counted
            .filter(|(of, _)| *of <= second && second - of < WINDOW_SECONDS)
            .map(|(_, tokens)| u64::from(tokens))
            .sum()
    }
}

fn pack(second: u32, tokens: u32) -> u64 {
    u64::from(second) << 32 | u64::from(tokens)
}

fn unpack(packed: u64) -> (u32, u32) {
    ((packed >> 32) as u32, packed as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[bounded::test]
    fn tokens_leave_the_window_after_a_minute_though_nobody_asked() {
        let ring = TokenRing::default();
        ring.add(5, 7);
        assert_eq!(
            (ring.window(5), ring.window(64), ring.window(65)),
            (7, 7, 0)
        );
        assert_eq!((ring.window(3605), ring.total()), (0, 7));
        ring.add(3605, 2);
        assert_eq!((ring.window(3605), ring.total()), (2, 9));
    }

    #[bounded::test]
    fn what_comes_very_late_counts_in_the_total_only() {
        let ring = TokenRing::default();
        ring.add(64 + 5, 1);
        ring.add(5, 1);
        assert_eq!((ring.window(69), ring.total()), (1, 2));
    }

    #[bounded::test]
    fn nothing_is_lost_between_threads() {
        let ring = TokenRing::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|n| ring.add(n / 1000, 3)));
            }
        });
        assert_eq!((ring.window(9), ring.total()), (120_000, 120_000));
    }

    proptest! {
        #[bounded::test]
        fn the_window_holds_what_a_list_of_all_tokens_says(
            steps in prop::collection::vec((0u32..20, 0u32..1000), 0..200),
            idle in 0u32..90,
        ) {
            let ring = TokenRing::default();
            let mut all = Vec::new();
            let mut second = 0;
            for (step, tokens) in steps {
                second += step;
                ring.add(second, tokens);
                all.push((second, u64::from(tokens)));
            }
            let now = second + idle;
            let naive: u64 = all.iter().filter(|(at, _)| at + 60 > now).map(|(_, n)| n).sum();
            prop_assert_eq!(ring.window(now), naive);
        }
    }
}
