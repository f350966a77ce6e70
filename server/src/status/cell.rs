//! Where one model stands: one place, which one writer fills and everybody else reads.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::model::Status;

/// The status of one model as it was published last. Clones are the same cell. It changes under the lock of
/// the event log only, together with the event that watchers get.
#[derive(Clone, Debug)]
pub struct StatusCell(Arc<ArcSwap<Status>>);

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
