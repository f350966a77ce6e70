//! How much of a body's messages has come, and whether they go on.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// Follows the messages of a body as they pass.
#[derive(Debug)]
pub(super) struct Arrivals {
    head: [u8; HEAD],
    /// Bytes of the head that have come.
    read: usize,
    /// Bytes of the message that are still to come.
    left: usize,
    /// Bytes of it that have come, the head included.
    came: usize,
    largest: usize,
    /// Since when more is waited for, and how long it was for this message before.
    asked: Option<Instant>,
    waited: Duration,
    /// Longest pause.
    pause: Duration,
    /// When more has to have come.
    limit: Pin<Box<Sleep>>,
}

/// What stands before each message: a flag, and its length.
const HEAD: usize = 5;

/// Bytes that have to come of a message each second that it is waited for, from the first minute on.
const LEAST_RATE: usize = 2 << 10;

impl Arrivals {
    /// A body of which nothing has come, and which may pause for so long.
    pub(super) fn new(pause: Duration) -> Self {
        Self {
            head: [0; HEAD],
            read: 0,
            left: 0,
            came: 0,
            largest: 0,
            asked: None,
            waited: Duration::ZERO,
            pause,
            limit: Box::pin(sleep(pause)),
        }
    }

    /// Passes `data`.
    pub(super) fn pass(&mut self, mut data: &[u8]) {
        if let Some(asked) = self.asked.take()
            && self.in_message()
        {
            self.waited += asked.elapsed();
        }
        while !data.is_empty() {
            let passed = match self.left {
                0 => self.pass_head(data),
                left => {
                    let passed = left.min(data.len());
                    self.left -= passed;
                    passed
                }
            };
            self.came += passed;
            self.largest = self.largest.max(self.came);
            data = &data[passed..];
            if !self.in_message() {
                self.came = 0;
                self.waited = Duration::ZERO;
            }
        }
    }

    fn pass_head(&mut self, data: &[u8]) -> usize {
        let passed = (HEAD - self.read).min(data.len());
        self.head[self.read..self.read + passed].copy_from_slice(&data[..passed]);
        self.read += passed;
        if self.read == HEAD {
            let [_, length @ ..] = self.head;
            self.read = 0;
            self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        }
        passed
    }

    /// Most bytes that have come of any message.
    pub(super) fn largest(&self) -> usize {
        self.largest
    }

    /// Whether a message has begun and not ended.
    pub(super) fn in_message(&self) -> bool {
        self.read > 0 || self.left > 0
    }

    /// Whether more should have come by now, of what is waited for from the first call on. If not, the task of `context` is
    /// woken then.
    pub(super) fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        if self.asked.is_none() {
            let now = Instant::now();
            self.asked = Some(now);
            let time = time_for(self.came, self.waited, self.pause);
            self.limit.as_mut().reset(now + time);
        }
        matches!(self.limit.as_mut().poll(context), Poll::Ready(()))
    }
}

/// How long the next bytes may take, where so many `came` of a message that was `waited` for so long.
fn time_for(came: usize, waited: Duration, pause: Duration) -> Duration {
    let paced = Duration::from_secs((came / LEAST_RATE) as u64);
    (pause + paced).saturating_sub(waited).min(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(60);

    #[bounded::test]
    async fn what_has_come_is_known_however_it_comes_apart() {
        let body = [0, 0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 9];
        for step in 1..=body.len() {
            let mut arrivals = Arrivals::new(PAUSE);
            for data in body.chunks(step) {
                arrivals.pass(data);
            }
            assert_eq!(arrivals.largest(), 8, "{step}");
            assert!(arrivals.in_message());
            arrivals.pass(&[0; 255]);
            assert_eq!(arrivals.largest(), 5 + 256);
            assert!(!arrivals.in_message());
        }
    }

    #[bounded::test]
    fn a_message_that_trickles_has_no_time_and_a_long_one_has() {
        assert_eq!(time_for(5, Duration::ZERO, PAUSE), PAUSE);
        assert_eq!(time_for(7, PAUSE / 2, PAUSE), PAUSE / 2);
        assert_eq!(time_for(9, 2 * PAUSE, PAUSE), Duration::ZERO);
        assert_eq!(time_for(120 * LEAST_RATE, 2 * PAUSE, PAUSE), PAUSE);
        assert_eq!(time_for(90 * LEAST_RATE, 2 * PAUSE, PAUSE), PAUSE / 2);
    }
}
