//! What ends the server.

use std::io;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Mutex,
};

/// SIGTERM and SIGINT, caught from the moment that this exists.
#[derive(Debug)]
pub struct Signals(Mutex<(Signal, Signal)>);

// === impl Signals ===

impl Signals {
    /// Begins to catch the signals.
    ///
    /// # Errors
    ///
    /// When the system does not let them be caught.
    pub fn listen() -> io::Result<Self> {
        Ok(Self(Mutex::new((
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        ))))
    }

    /// Waits for one of them.
    pub async fn terminated(&self) {
        let mut signals = self.0.lock().await;
        let (terminate, interrupt) = &mut *signals;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }

    /// The outcome of `work`, or `None` as soon as another signal comes.
    pub async fn or_second<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            outcome = work => Some(outcome),
            () = self.terminated() => None,
        }
    }
}
