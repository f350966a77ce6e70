//! The sequence of all models' transitions, and where each model stands.
//!
//! Invariants: revisions rise by one; the ring holds the last of them without a gap; the current status of each model is
//! that of its last transition, with newer progress, and cells change under the log's lock only. Watchers pull from here
//! at their own pace, so a slow one costs nothing but its cursor.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cell::StatusCell;
use crate::model::{Epoch, ModelId, Revision, Status, Switch};

/// Something that happened.
#[derive(Debug)]
pub struct LogEvent {
    /// Position in the sequence; for progress, that of the last transition.
    pub revision: Revision,
    /// What happened.
    pub change: LogChange,
    encoded: OnceLock<Bytes>,
}

/// What happened.
#[derive(Debug)]
pub enum LogChange {
    /// A model came into a state.
    Transition(Status),
    /// A load went on.
    Progress(Status),
    /// A model's spec was changed.
    Spec {
        /// Where the model stands.
        status: Status,
        /// Version of the spec.
        version: u64,
    },
    /// A model's aliases were changed.
    Aliases {
        /// Where the model stands.
        status: Status,
        /// The aliases, in order.
        aliases: Vec<ModelId>,
    },
    /// A model is no longer registered.
    Removed(ModelId),
    /// A switch of an alias began or ended.
    Switched(Switch),
}

/// Takes what drivers publish and gives it to watchers.
#[derive(Debug)]
pub struct EventLog {
    epoch: Epoch,
    capacity: usize,
    contents: Mutex<LogContents>,
    changes: watch::Sender<u64>,
    closed: CancellationToken,
    pub(super) watchers: Arc<AtomicUsize>,
}

/// What the lock protects.
#[derive(Debug, Default)]
pub(super) struct LogContents {
    pub(super) revision: Revision,
    pub(super) ring: VecDeque<Arc<LogEvent>>,
    /// The cells of all models that are registered.
    pub(super) models: BTreeMap<ModelId, StatusCell>,
    pub(super) progress: BTreeMap<ModelId, LatestProgress>,
    serial: u64,
    /// What comes after it is not sent any more.
    last: Option<Revision>,
}

/// The latest progress of a model.
#[derive(Clone, Debug)]
pub(super) struct LatestProgress {
    pub(super) status: Status,
    /// Distinguishes it from earlier and later progress.
    pub(super) serial: u64,
    /// The progress, at the revision of the last transition of any model: whoever has heard of that one
    /// and resumes from here hears nothing twice.
    pub(super) event: Arc<LogEvent>,
}

impl LogEvent {
    fn new(revision: Revision, change: LogChange) -> Arc<Self> {
        Arc::new(Self {
            revision,
            change,
            encoded: OnceLock::new(),
        })
    }

    /// Whether it concerns a name for which `watched` holds.
    pub fn concerns(&self, watched: impl Fn(&ModelId) -> bool) -> bool {
        match &self.change {
            LogChange::Transition(status)
            | LogChange::Progress(status)
            | LogChange::Spec { status, .. }
            | LogChange::Aliases { status, .. } => watched(&status.model_id),
            LogChange::Removed(id) => watched(id),
            LogChange::Switched(switch) => {
                watched(&switch.alias)
                    || watched(&switch.to)
                    || switch.from.as_ref().is_some_and(watched)
            }
        }
    }

    /// The event as it goes over the wire: encoded by the first who asks, shared by all others.
    pub fn encoded(&self, encode: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.encoded.get_or_init(|| encode(self)).clone()
    }
}

impl LatestProgress {
    pub(super) fn model_id(&self) -> &ModelId {
        &self.status.model_id
    }
}

impl EventLog {
    /// A log that remembers the last `capacity` transitions.
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            epoch: Epoch::random(),
            capacity: capacity.max(1),
            contents: Mutex::default(),
            changes: watch::Sender::new(0),
            closed: CancellationToken::new(),
            watchers: Arc::default(),
        })
    }

    /// Identifies this run of the server.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The number of the last event.
    pub fn revision(&self) -> Revision {
        self.contents().revision
    }

    /// Makes a model known without a transition, if it is not.
    pub fn track(&self, status: Status) {
        self.contents().cell(status);
        self.touch();
    }

    /// Makes many models known at once, as [`EventLog::track`] does.
    pub fn track_all(&self, statuses: impl IntoIterator<Item = Status>) {
        let mut contents = self.contents();
        for status in statuses {
            contents.cell(status);
        }
        drop(contents);
        self.touch();
    }

    /// The cell of a model that has a publisher from now on, which is suspended as `status` says. One that is not known is
    /// tracked as `status`.
    pub(super) fn cell_to_publish(&self, status: Status) -> StatusCell {
        let suspended = status.suspended.clone();
        let mut contents = self.contents();
        let cell = contents.cell(status);
        cell.store(Status {
            suspended,
            ..Status::clone(&cell.load())
        });
        drop(contents);
        self.touch();
        cell
    }

    /// The model `id`, which has no driver, is suspended no longer. Says whether it was. Watchers find that in their next snapshot:
    /// nothing has happened to the model.
    pub fn unsuspend(&self, id: &ModelId) -> bool {
        let contents = self.contents();
        let cell = contents.models.get(id);
        let Some(cell) = cell.filter(|cell| cell.load().suspended.is_some()) else {
            return false;
        };
        cell.store(Status {
            suspended: None,
            ..Status::clone(&cell.load())
        });
        true
    }

    /// A model came into a state.
    pub(super) fn transition(&self, status: Status) {
        let mut contents = self.contents();
        contents.progress.remove(&status.model_id);
        contents.cell(status.clone()).store(status.clone());
        self.append(contents, LogChange::Transition(status));
    }

    /// The spec of the model `id` was changed.
    pub fn spec_changed(&self, id: &ModelId, version: u64) {
        let contents = self.contents();
        let status = contents.status(id);
        self.append(contents, LogChange::Spec { status, version });
    }

    /// The aliases of the model `id` were changed.
    pub fn aliases_changed(&self, id: &ModelId, aliases: Vec<ModelId>) {
        let contents = self.contents();
        let status = contents.status(id);
        self.append(contents, LogChange::Aliases { status, aliases });
    }

    /// The model `id` is no longer registered.
    pub fn remove(&self, id: &ModelId) {
        let mut contents = self.contents();
        contents.progress.remove(id);
        if contents.models.remove(id).is_some() {
            self.append(contents, LogChange::Removed(id.clone()));
        }
    }

    /// A switch began or ended.
    pub fn switched(&self, switch: Switch) {
        self.append(self.contents(), LogChange::Switched(switch));
    }

    fn append(&self, mut contents: MutexGuard<'_, LogContents>, change: LogChange) {
        let revision = contents.revision.next();
        contents.revision = revision;
        if contents.ring.len() == self.capacity {
            contents.ring.pop_front();
        }
        contents.ring.push_back(LogEvent::new(revision, change));
        for latest in contents.progress.values_mut() {
            latest.event = LogEvent::new(revision, LogChange::Progress(latest.status.clone()));
        }
        drop(contents);
        self.touch();
    }

    /// A load went on.
    pub(super) fn progress(&self, status: Status) {
        let mut contents = self.contents();
        let id = status.model_id.clone();
        contents.cell(status.clone()).store(status.clone());
        let event = LogEvent::new(contents.revision, LogChange::Progress(status.clone()));
        contents.serial += 1;
        let serial = contents.serial;
        let latest = LatestProgress {
            status,
            serial,
            event,
        };
        contents.progress.insert(id, latest);
        drop(contents);
        self.touch();
    }

    /// Takes note of figures that watchers are not sent, such as memory.
    pub(super) fn update_silently(&self, status: Status) {
        let contents = self.contents();
        // A model that was removed meanwhile stays removed.
        if let Some(cell) = contents.models.get(&status.model_id) {
            cell.store(status);
        }
    }

    /// Where the first `limit` models stand, at one moment, by id, and whether there are more.
    pub fn first(&self, limit: usize) -> (Vec<Status>, bool) {
        let contents = self.contents();
        let first = contents.models.values().take(limit);
        let first = first.map(|cell| Status::clone(&cell.load())).collect();
        (first, contents.models.len() > limit)
    }

    /// Where those models stand for which `wanted` holds, at one moment, by id.
    pub fn select(&self, wanted: impl Fn(&Status) -> bool) -> Vec<Status> {
        let contents = self.contents();
        let statuses = contents.models.values().map(StatusCell::load);
        let selected = statuses.filter(|status| wanted(status));
        selected.map(|status| Status::clone(&status)).collect()
    }

    /// Where the model `id` stands, if it is known.
    pub fn status(&self, id: &ModelId) -> Option<Status> {
        let contents = self.contents();
        let cell = contents.models.get(id)?;
        Some(Status::clone(&cell.load()))
    }

    /// Number of watchers.
    pub fn watchers(&self) -> usize {
        self.watchers.load(Ordering::Relaxed)
    }

    /// Ends all watches, now and later ones. What happens from now on is sent to nobody.
    pub fn close(&self) {
        let mut contents = self.contents();
        let revision = contents.revision;
        contents.last.get_or_insert(revision);
        drop(contents);
        self.closed.cancel();
    }

    /// Changes with everything that is published, and with [`EventLog::touch`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Makes everybody look again.
    pub fn touch(&self) {
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    pub(super) fn contents(&self) -> MutexGuard<'_, LogContents> {
        // Nothing panics while it holds the lock, so a poisoned one still holds whole contents.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogContents {
    fn status(&self, id: &ModelId) -> Status {
        let known = self.models.get(id);
        known.map_or_else(
            || Status::unloaded(id.clone()),
            |cell| Status::clone(&cell.load()),
        )
    }

    /// The cell of a model, which begins as `status` if it is not known.
    fn cell(&mut self, status: Status) -> StatusCell {
        let id = status.model_id.clone();
        let cell = self.models.entry(id);
        cell.or_insert_with(|| StatusCell::new(status)).clone()
    }

    /// The oldest transition that is remembered.
    pub(super) fn oldest(&self) -> Option<Revision> {
        self.ring.front().map(|event| event.revision)
    }

    /// Whether the event log is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.last.is_some()
    }

    /// Whether everything after `cursor` is remembered.
    pub(super) fn reaches(&self, cursor: Revision) -> bool {
        cursor <= self.revision && self.oldest().is_none_or(|oldest| cursor.next() >= oldest)
    }

    /// At most `limit` transitions after `cursor`, which the ring has to reach; none after the last that is sent.
    pub(super) fn after(&self, cursor: Revision, limit: usize) -> Vec<Arc<LogEvent>> {
        let Some(oldest) = self.oldest() else {
            return Vec::new();
        };
        let skip = usize::try_from(cursor.next().0.saturating_sub(oldest.0)).unwrap_or(usize::MAX);
        let reported = |event: &&Arc<LogEvent>| self.last.is_none_or(|last| event.revision <= last);
        let after = self.ring.iter().skip(skip).take_while(reported);
        after.take(limit).cloned().collect()
    }
}
