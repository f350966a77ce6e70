//! A driver's reply to a command.

use tokio::sync::{oneshot, watch};

/// The reply of a driver that may hang: whoever waits is told when it is taken for stuck. Dropping this says that nobody
/// waits any more.
#[derive(Debug)]
pub struct DriverReply<T> {
    reply: oneshot::Receiver<T>,
    /// Whether the driver was declared stuck.
    stuck: watch::Receiver<bool>,
}

impl<T> DriverReply<T> {
    pub(super) fn new(reply: oneshot::Receiver<T>, stuck: watch::Receiver<bool>) -> Self {
        Self { reply, stuck }
    }

    /// Waits for the reply. `None`: the driver has gone, or no longer turns. Safe to cancel.
    pub async fn wait(mut self) -> Option<T> {
        tokio::select! {
            biased;
            reply = &mut self.reply => return reply.ok(),
            _ = self.stuck.wait_for(|stuck| *stuck) => {}
        }
        // What it has answered by now counts; of what it would answer from now on it sees that nobody waits for it.
        self.reply.close();
        self.reply.try_recv().ok()
    }
}
