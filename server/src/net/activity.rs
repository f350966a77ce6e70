//! What connections do, and which of them are to go: one that nobody uses, or uses for very long, keeps others out.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// One connection.
#[derive(Debug)]
pub(super) struct ConnectionActivity {
    opened: Instant,
    streams: watch::Sender<Streams>,
    /// Since when it is to go for another.
    asked_to_go: watch::Sender<Option<Instant>>,
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
            asked_to_go: watch::Sender::new(None),
        }
    }

    /// A stream begins.
    pub(super) fn begin(self: &Arc<Self>) -> StreamGuard {
        // Who waits wants to know of the first stream and of the last.
        self.streams.send_if_modified(|streams| {
            streams.count += 1;
            streams.count == 1
        });
        StreamGuard(self.clone())
    }

    /// Waits until it has had no stream for the time `idle`, is `age` old, or was asked to go.
    pub(super) async fn is_to_go(&self, idle: Duration, age: Duration) {
        let mut asked_to_go = self.asked_to_go.subscribe();
        tokio::select! {
            () = self.is_idle_for(idle) => {}
            () = sleep_until(self.opened + age) => {}
            _ = asked_to_go.wait_for(Option::is_some) => {}
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
        (count == 0 && self.asked_to_go.borrow().is_none()).then_some(since)
    }

    /// Whether it was asked to go less than the time `limit` ago.
    fn is_going(&self, limit: Duration) -> bool {
        let asked = *self.asked_to_go.borrow();
        asked.is_some_and(|asked| asked.elapsed() < limit)
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.streams.send_if_modified(|streams| {
            streams.count -= 1;
            streams.since = Instant::now();
            streams.count == 0
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

    /// Asks the one to go that has been idle for longest, if one has been for the time `idle`, and none that was asked is still
    /// going, for which it has the time `leave`.
    pub(super) fn ask_idle_one_to_go(&self, idle: Duration, leave: Duration) {
        let connections = self.connections();
        let open: Vec<_> = connections.iter().filter_map(Weak::upgrade).collect();
        drop(connections);
        if open.iter().any(|connection| connection.is_going(leave)) {
            return;
        }
        let longest = open
            .iter()
            .filter_map(|connection| Some((connection.idle_since()?, connection)))
            .min_by_key(|(since, _)| *since);
        if let Some((since, connection)) = longest
            && since.elapsed() >= idle
        {
            connection.asked_to_go.send_replace(Some(Instant::now()));
        }
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Weak<ConnectionActivity>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
