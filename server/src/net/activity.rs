//! What connections do, and which of them are to go: one that nobody uses, or uses for very long, keeps others out.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// One connection.
#[derive(Debug)]
pub(super) struct ConnectionActivity {
    opened: Instant,
    streams: watch::Sender<Streams>,
    asked_to_go: CancellationToken,
}

/// How many streams a connection has, and since when.
#[derive(Clone, Copy, Debug)]
struct Streams {
    count: usize,
    since: Instant,
}

/// A stream, or a request of HTTP/1.1, until this is dropped.
#[derive(Debug)]
pub(super) struct StreamGuard(Arc<ConnectionActivity>);

/// The connections of a listener.
#[derive(Debug, Default)]
pub(super) struct OpenConnections(Mutex<Vec<Weak<ConnectionActivity>>>);

impl ConnectionActivity {
    fn new() -> Self {
        let opened = Instant::now();
        let streams = Streams {
            count: 0,
            since: opened,
        };
        Self {
            opened,
            streams: watch::Sender::new(streams),
            asked_to_go: CancellationToken::new(),
        }
    }

    /// A stream begins.
    pub(super) fn begin(self: &Arc<Self>) -> StreamGuard {
        self.streams.send_modify(|streams| {
            streams.count += 1;
        });
        StreamGuard(self.clone())
    }

    /// Waits until it has had no stream for the time `idle`, is `age` old, or was asked to go.
    pub(super) async fn is_to_go(&self, idle: Duration, age: Duration) {
        tokio::select! {
            () = self.is_idle_for(idle) => {}
            () = sleep_until(self.opened + age) => {}
            () = self.asked_to_go.cancelled() => {}
        }
    }

    async fn is_idle_for(&self, idle: Duration) {
        let mut changes = self.streams.subscribe();
        loop {
            let Streams { count, since } = *changes.borrow_and_update();
            tokio::select! {
                () = sleep_until(since + idle), if count == 0 => return,
                // The sender is here.
                _ = changes.changed() => {}
            }
        }
    }

    /// Since when it has had no stream, unless it is going already.
    fn idle_since(&self) -> Option<Instant> {
        let Streams { count, since } = *self.streams.borrow();
        (count == 0 && !self.asked_to_go.is_cancelled()).then_some(since)
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.streams.send_modify(|streams| {
            streams.count -= 1;
            streams.since = Instant::now();
        });
    }
}

impl OpenConnections {
    /// A connection is opened, and is one of these until what this gives is dropped.
    pub(super) fn open(&self) -> Arc<ConnectionActivity> {
        let connection = Arc::new(ConnectionActivity::new());
        let mut connections = self.connections();
        connections.retain(|connection| connection.strong_count() > 0);
        connections.push(Arc::downgrade(&connection));
        connection
    }

    /// Asks the one to go that has been idle for longest, if one has been for the time `idle`.
    pub(super) fn make_room(&self, idle: Duration) {
        let longest = self
            .connections()
            .iter()
            .filter_map(Weak::upgrade)
            .filter_map(|connection| Some((connection.idle_since()?, connection)))
            .min_by_key(|(since, _)| *since);
        if let Some((since, connection)) = longest
            && since.elapsed() >= idle
        {
            connection.asked_to_go.cancel();
        }
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Weak<ConnectionActivity>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
