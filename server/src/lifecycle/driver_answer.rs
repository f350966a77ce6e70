//! What a driver owes to somebody who has sent it a command.

use tokio::sync::{oneshot, watch};

/// The answer of a driver that may hang: whoever waits is told when it is taken for stuck. Dropping this says that nobody
/// waits any more.
#[derive(Debug)]
pub struct DriverAnswer<T> {
    answer: oneshot::Receiver<T>,
    /// Whether the driver was given up.
    abandoned: watch::Receiver<bool>,
}

impl<T> DriverAnswer<T> {
    pub(super) fn new(answer: oneshot::Receiver<T>, abandoned: watch::Receiver<bool>) -> Self {
        Self { answer, abandoned }
    }

    /// Waits for the answer. `None`: the driver has gone, or no longer turns. Safe to cancel.
    pub async fn wait(mut self) -> Option<T> {
        tokio::select! {
            biased;
            answer = &mut self.answer => return answer.ok(),
            _ = self.abandoned.wait_for(|abandoned| *abandoned) => {}
        }
        // What it has said by now counts, and what it would say from now on it hears that nobody waits for.
        self.answer.close();
        self.answer.try_recv().ok()
    }
}
