//! What ends the server.

use std::io;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Mutex,
};

/// SIGTERM and SIGINT, caught from the moment that this exists. SIGXFSZ is caught too, so that a limit on the
/// size of files is an error of the write that meets it and not the end of the server.
#[derive(Debug)]
pub struct Signals {
    signals: Mutex<(Signal, Signal)>,
    _file_too_large: Signal,
}

impl Signals {
    /// Begins to catch the signals.
    ///
    /// # Errors
    ///
    /// When the system does not let them be caught.
    pub fn listen() -> io::Result<Self> {
        let file_too_large = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
        Ok(Self {
            signals: Mutex::new((
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            )),
            _file_too_large: signal(file_too_large)?,
        })
    }

    /// Waits for one of them.
    pub async fn terminated(&self) {
        let mut signals = self.signals.lock().await;
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
