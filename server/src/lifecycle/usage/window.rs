//! What ended in each of the last seconds.
//!
//! Invariant: seconds rise without repetition, and all of them belong to the window that ends with the
//! last. It takes nothing while nothing happens, 80 bytes for each second in which a request began to
//! answer or ended, and 4 bytes for each size of latency that was seen in it: at most 60 seconds with 896
//! sizes each, 435 kB, and about 20 kB at 20 requests a second.

use std::{collections::VecDeque, time::Duration};

use super::latency::{Histogram, Latency};

/// The last seconds.
#[derive(Debug, Default)]
pub(super) struct Window {
    seconds: VecDeque<(u32, Tally)>,
}

/// Seconds of the window, the one that is not over included.
pub(super) const WINDOW_SECONDS: u32 = 60;

/// What ended in a stretch of time.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) counts: Counts,
    first_token: Histogram,
    per_token: Histogram,
}

/// Requests that ended and tokens of their prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) succeeded: u32,
    pub(super) failed: u32,
    pub(super) cancelled: u32,
    pub(super) prompt_tokens: u64,
}

/// Something to count.
#[derive(Clone, Copy, Debug)]
pub(super) enum UsageEvent {
    /// A request had its first token this long after its admission.
    FirstToken(Duration),
    /// A request ended well.
    Succeeded {
        prompt_tokens: u32,
        /// Mean time of the tokens after the first.
        per_token: Option<Duration>,
    },
    /// A request ended with an error.
    Failed,
    /// A request was given up by its caller.
    Cancelled,
}

impl Window {
    pub(super) fn add(&mut self, second: u32, event: UsageEvent) {
        let found = self.seconds.binary_search_by_key(&second, |(of, _)| *of);
        let at = found.unwrap_or_else(|at| {
            self.seconds.insert(at, (second, Tally::default()));
            at
        });
        self.seconds[at].1.add(event);
        let last = self.seconds.back().map_or(second, |(of, _)| *of);
        self.expire(last);
    }

    /// Forgets what does not belong to the window that ends with this second.
    pub(super) fn expire(&mut self, second: u32) {
        let old = |(of, _): &mut (u32, Tally)| second.saturating_sub(*of) >= WINDOW_SECONDS;
        while self.seconds.pop_front_if(old).is_some() {}
        if self.seconds.is_empty() {
            self.seconds = VecDeque::new();
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let all = self.seconds.iter().map(|(_, tally)| tally.counts);
        all.fold(Counts::default(), Counts::plus)
    }

    /// Quantiles of the first tokens, and of the tokens after them.
    pub(super) fn latencies(&self) -> (Option<Latency>, Option<Latency>) {
        let tallies = || self.seconds.iter().map(|(_, tally)| tally);
        (
            Latency::of(tallies().map(|tally| &tally.first_token)),
            Latency::of(tallies().map(|tally| &tally.per_token)),
        )
    }
}

impl Tally {
    pub(super) fn add(&mut self, event: UsageEvent) {
        match event {
            UsageEvent::FirstToken(latency) => self.first_token.add(latency),
            UsageEvent::Succeeded {
                prompt_tokens,
                per_token,
            } => {
                self.counts.succeeded += 1;
                self.counts.prompt_tokens += u64::from(prompt_tokens);
                if let Some(latency) = per_token {
                    self.per_token.add(latency);
                }
            }
            UsageEvent::Failed => self.counts.failed += 1,
            UsageEvent::Cancelled => self.counts.cancelled += 1,
        }
    }

    /// Quantiles of the first tokens, and of the tokens after them.
    pub(super) fn latencies(&self) -> (Option<Latency>, Option<Latency>) {
        (
            Latency::of([&self.first_token]),
            Latency::of([&self.per_token]),
        )
    }
}

impl Counts {
    fn plus(self, other: Self) -> Self {
        Self {
            succeeded: self.succeeded.saturating_add(other.succeeded),
            failed: self.failed.saturating_add(other.failed),
            cancelled: self.cancelled.saturating_add(other.cancelled),
            prompt_tokens: self.prompt_tokens + other.prompt_tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(kind: u8, n: u32) -> UsageEvent {
        match kind {
            0 => UsageEvent::FirstToken(Duration::from_micros(n.into())),
            1 => UsageEvent::Succeeded {
                prompt_tokens: n,
                per_token: n.is_multiple_of(2).then(|| Duration::from_micros(n.into())),
            },
            2 => UsageEvent::Failed,
            _ => UsageEvent::Cancelled,
        }
    }

    #[bounded::test]
    fn an_idle_window_gives_its_memory_back() {
        let mut window = Window::default();
        (0..600).for_each(|second| window.add(second, UsageEvent::Failed));
        assert_eq!((window.seconds.len(), window.counts().failed), (60, 60));
        window.expire(600 + 3600);
        assert_eq!((window.seconds.capacity(), window.counts().failed), (0, 0));
    }

    #[bounded::test]
    fn a_second_takes_the_bytes_that_are_promised() {
        assert_eq!(size_of::<(u32, Tally)>(), 80);
    }

    proptest! {
        #[bounded::test]
        fn the_window_holds_what_a_list_of_all_observations_says(
            steps in prop::collection::vec((0u32..9, 0u32..3, 0u8..4, 0u32..5_000), 0..200),
            idle in 0u32..90,
        ) {
            let (mut window, mut naive, mut second) = (Window::default(), Vec::new(), 2);
            for (step, late, kind, n) in steps {
                second += step;
                // Threads may be overtaken between the clock and the lock.
                window.add(second - late.min(second), event(kind, n));
                naive.push((second - late.min(second), kind, n));
            }
            let now = second + idle;
            window.expire(now);
            naive.retain(|(at, ..)| at + 60 > now);
            let count = |wanted: u8| naive.iter().filter(|(_, kind, _)| *kind == wanted).count();
            let counts = window.counts();
            prop_assert_eq!(counts.succeeded as usize, count(1));
            prop_assert_eq!(counts.failed as usize, count(2));
            prop_assert_eq!(counts.cancelled as usize, count(3));
            let prompts: u64 = naive.iter().filter(|(_, kind, _)| *kind == 1).map(|(.., n)| u64::from(*n)).sum();
            prop_assert_eq!(counts.prompt_tokens, prompts);
            let (first, each) = window.latencies();
            prop_assert_eq!(first.map_or(0, |latency| latency.count as usize), count(0));
            let even = naive.iter().filter(|(_, kind, n)| *kind == 1 && n.is_multiple_of(2)).count();
            prop_assert_eq!(each.map_or(0, |latency| latency.count as usize), even);
            let mut firsts: Vec<_> = naive.iter().filter(|(_, kind, _)| *kind == 0).map(|(.., n)| *n).collect();
            firsts.sort_unstable();
            if let Some(first) = first {
                let median = Duration::from_micros(firsts[firsts.len().div_ceil(2) - 1].into());
                prop_assert!(first.p50() >= median && first.p50() <= median + median / 32);
            }
        }
    }
}
