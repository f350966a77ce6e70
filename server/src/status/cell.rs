//! Where one model stands: one place, which one writer fills and everybody else reads.

use std::{sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;

use super::Hub;
use crate::model::{Stage, Status};

/// The status of one model as it was published last. Clones are the same cell. It changes under the lock of the
/// hub's journal only, together with the event that watchers get.
#[derive(Clone, Debug)]
pub struct StatusCell(Arc<ArcSwap<Status>>);

/// Publishes the status of one model. Its driver has the only one.
#[derive(Debug)]
pub struct Publisher {
    hub: Arc<Hub>,
    cell: StatusCell,
    /// What is published next.
    draft: Status,
}

impl StatusCell {
    pub(super) fn new(status: Status) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(status)))
    }

    /// The status.
    pub fn load(&self) -> Arc<Status> {
        self.0.load_full()
    }

    pub(super) fn store(&self, status: Status) {
        self.0.store(Arc::new(status));
    }
}

impl Publisher {
    pub(super) fn new(hub: Arc<Hub>, cell: StatusCell) -> Self {
        let draft = Status::clone(&cell.load());
        Self { hub, cell, draft }
    }

    /// What others read.
    pub fn cell(&self) -> &StatusCell {
        &self.cell
    }

    /// What is published next, as far as it is known.
    pub fn draft(&self) -> &Status {
        &self.draft
    }

    /// To be changed before it is published.
    pub fn edit(&mut self) -> &mut Status {
        &mut self.draft
    }

    /// The model came into `stage` at the time `now`: a new generation.
    pub fn transition(&mut self, stage: Stage, now: SystemTime) {
        self.draft.stage = stage;
        self.draft.generation = self.draft.generation.next();
        self.draft.since = now;
        self.hub.transition(self.draft.clone());
    }

    /// The load went on, which is no transition.
    pub fn progress(&self) {
        self.hub.progress(self.draft.clone());
    }

    /// Figures changed that watchers are not sent, such as memory.
    pub fn note(&self) {
        self.hub.note(self.draft.clone());
    }
}
