//! One watcher: a cursor into the event log's sequence.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::event_log::{EventLog, LatestProgress, LogEvent};
use crate::model::{ModelId, Revision, Status};

/// Which models a watcher wants to hear of.
#[derive(Clone, Debug, Default)]
pub enum Filter {
    /// All, also those to come.
    #[default]
    All,
    /// These; they need not be known yet.
    Only(BTreeSet<ModelId>),
}

/// What a watcher hears.
#[derive(Debug)]
pub enum WatchItem {
    /// Where all models stand. With `reset`, continuity was lost.
    Snapshot {
        /// The models, as all who watch share them.
        models: Vec<Arc<Status>>,
        /// Continuity was lost.
        reset: bool,
        /// The last transition that it includes.
        revision: Revision,
    },
    /// Something happened.
    Event(Arc<LogEvent>),
    /// Nothing happened for a while.
    Heartbeat {
        /// The last transition.
        revision: Revision,
    },
    /// The server is shutting down; nothing follows.
    Closed,
}

/// A position that cannot be resumed from.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the position lies in the future")]
pub struct ResumeError;

/// A watcher. Holds at most a small batch of events; what it has not fetched yet stays in the event log, and
/// if the event log forgets it first, the watcher is caught up with a reset.
#[derive(Debug)]
pub struct Watch {
    event_log: Arc<EventLog>,
    changes: watch::Receiver<u64>,
    filter: Filter,
    cursor: Revision,
    begin: WatchStart,
    batch: VecDeque<Arc<LogEvent>>,
    throttle: ProgressThrottle,
    heartbeat: Duration,
    _subscription: Subscription,
}

/// Whether a snapshot is due.
#[derive(Debug, PartialEq, Eq)]
enum WatchStart {
    Snapshot { reset: bool },
    Done,
}

/// Spaces out the progress of each model.
#[derive(Debug)]
struct ProgressThrottle {
    interval: Duration,
    reported: BTreeMap<ModelId, (u64, Instant)>,
}

/// Counts a watcher for as long as it lives.
#[derive(Debug)]
struct Subscription(Arc<AtomicUsize>);

/// Events that are fetched at once.
const BATCH: usize = 64;

impl Watch {
    /// A watcher that begins with a snapshot, or behind `resume` where that is possible. `resume` is
    /// `Some(None)` for a position of another epoch. Progress of a model comes at most once per
    /// `interval`; a heartbeat comes when nothing else did for the time `heartbeat`.
    ///
    /// # Errors
    ///
    /// When `resume` lies in the future.
    pub fn new(
        event_log: Arc<EventLog>,
        filter: Filter,
        resume: Option<Option<Revision>>,
        interval: Duration,
        heartbeat: Duration,
    ) -> Result<Self, ResumeError> {
        let (cursor, begin) = match resume {
            None => (Revision::default(), WatchStart::Snapshot { reset: false }),
            Some(None) => (Revision::default(), WatchStart::Snapshot { reset: true }),
            Some(Some(cursor)) if cursor > event_log.contents().revision => {
                return Err(ResumeError);
            }
            Some(Some(cursor)) => (cursor, WatchStart::Done),
        };
        let changes = event_log.changes();
        let _subscription = Subscription::new(&event_log.watchers);
        let throttle = ProgressThrottle {
            interval,
            reported: BTreeMap::new(),
        };
        Ok(Self {
            event_log,
            changes,
            filter,
            cursor,
            begin,
            batch: VecDeque::new(),
            throttle,
            heartbeat,
            _subscription,
        })
    }

    /// The next notice. Safe to cancel: nothing is lost.
    pub async fn next(&mut self) -> WatchItem {
        let quiet_until = Instant::now() + self.heartbeat;
        loop {
            self.changes.mark_unchanged();
            if let Some(notice) = self.poll() {
                return notice;
            }
            if self.event_log.closed().is_cancelled() {
                return WatchItem::Closed;
            }
            let progress_due = self.progress_due().unwrap_or(quiet_until);
            tokio::select! {
                _ = self.changes.changed() => {}
                () = self.event_log.closed().cancelled() => {}
                () = tokio::time::sleep_until(progress_due.min(quiet_until)) => {
                    if Instant::now() >= quiet_until {
                        return WatchItem::Heartbeat { revision: self.cursor };
                    }
                }
            }
        }
    }

    /// What can be sent now.
    fn poll(&mut self) -> Option<WatchItem> {
        let event_log = self.event_log.clone();
        loop {
            if let Some(event) = self.batch.pop_front() {
                if event.concerns(|id| self.filter.admits(id)) {
                    return Some(WatchItem::Event(event));
                }
                continue;
            }
            let contents = event_log.contents();
            if self.begin == WatchStart::Done && !contents.reaches(self.cursor) {
                self.begin = WatchStart::Snapshot { reset: true };
            }
            if let WatchStart::Snapshot { reset } = self.begin {
                self.begin = WatchStart::Done;
                self.cursor = contents.revision;
                let models = contents
                    .models
                    .iter()
                    .filter(|(id, _)| self.filter.admits(id))
                    .map(|(_, cell)| cell.load())
                    .collect();
                self.throttle.skip(contents.progress.values());
                return Some(WatchItem::Snapshot {
                    models,
                    reset,
                    revision: contents.revision,
                });
            }
            let batch = contents.after(self.cursor, BATCH);
            let Some(last) = batch.last() else {
                if contents.is_closed() {
                    return None;
                }
                let filter = &self.filter;
                return self.throttle.next(
                    contents
                        .progress
                        .values()
                        .filter(|p| filter.admits(p.model_id())),
                );
            };
            self.cursor = last.revision;
            self.batch.extend(batch);
        }
    }

    /// When progress that is held back may be sent.
    fn progress_due(&self) -> Option<Instant> {
        let contents = self.event_log.contents();
        let admitted = contents
            .progress
            .values()
            .filter(|p| self.filter.admits(p.model_id()));
        self.throttle.due(admitted)
    }
}

impl Filter {
    fn admits(&self, id: &ModelId) -> bool {
        match self {
            Self::All => true,
            Self::Only(ids) => ids.contains(id),
        }
    }
}

impl ProgressThrottle {
    /// Takes all of `current` as sent: a snapshot has just shown it.
    fn skip<'a>(&mut self, current: impl Iterator<Item = &'a LatestProgress>) {
        let now = Instant::now();
        self.reported = current
            .map(|latest| (latest.model_id().clone(), (latest.serial, now)))
            .collect();
    }

    /// The first of `current` that is new and not too soon.
    fn next<'a>(
        &mut self,
        current: impl Iterator<Item = &'a LatestProgress> + Clone,
    ) -> Option<WatchItem> {
        let now = Instant::now();
        let Some(latest) = current
            .clone()
            .find(|latest| self.when(latest, now).is_some_and(|due| due <= now))
        else {
            if self.reported.len() > current.clone().count() {
                let loading: BTreeSet<_> = current.map(LatestProgress::model_id).collect();
                // What was sent a moment ago still counts: the next attempt's progress may not come sooner.
                let interval = self.interval;
                self.reported
                    .retain(|id, (_, at)| loading.contains(id) || now < *at + interval);
            }
            return None;
        };
        self.reported
            .insert(latest.model_id().clone(), (latest.serial, now));
        Some(WatchItem::Event(latest.event.clone()))
    }

    fn due<'a>(&self, current: impl Iterator<Item = &'a LatestProgress>) -> Option<Instant> {
        let now = Instant::now();
        current.filter_map(|latest| self.when(latest, now)).min()
    }

    /// When `latest` may be sent, as of `now`; `None` when it was.
    fn when(&self, latest: &LatestProgress, now: Instant) -> Option<Instant> {
        match self.reported.get(latest.model_id()) {
            None => Some(now),
            Some((reported, _)) if *reported == latest.serial => None,
            Some((_, at)) => Some(*at + self.interval),
        }
    }
}

impl Subscription {
    fn new(watchers: &Arc<AtomicUsize>) -> Self {
        watchers.fetch_add(1, Ordering::Relaxed);
        Self(watchers.clone())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
