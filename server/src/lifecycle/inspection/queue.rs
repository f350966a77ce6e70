//! The queue of those that inspect files ahead of a reload. Few do at the same time, and not many wait.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// The queue of one server.
#[derive(Debug)]
pub(super) struct InspectionQueue {
    /// For those that inspect and those that wait.
    capacity: Semaphore,
    permits: Arc<Semaphore>,
}

/// A place in the queue, or at its head.
#[derive(Debug)]
pub(super) struct QueueEntry<'a> {
    permits: &'a Arc<Semaphore>,
    _entry: SemaphorePermit<'a>,
}

/// As many reloads wait for their files to be inspected as may.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{limit} reloads wait for the inspection of their files already")]
pub struct TooManyReloads {
    /// How many that is.
    pub limit: usize,
}

/// Inspections at the same time: each is a process that reads files.
pub(super) const AT_ONCE: usize = 2;

/// Those that may wait besides.
const MAX_WAITING: usize = 64;

impl InspectionQueue {
    /// Takes a place in the queue.
    ///
    /// # Errors
    ///
    /// When it is full.
    pub(super) fn join(&self) -> Result<QueueEntry<'_>, TooManyReloads> {
        let entry = self.capacity.try_acquire();
        // They are never closed.
        let entry = entry.map_err(|_| TooManyReloads { limit: MAX_WAITING })?;
        Ok(QueueEntry {
            permits: &self.permits,
            _entry: entry,
        })
    }
}

impl Default for InspectionQueue {
    fn default() -> Self {
        Self {
            capacity: Semaphore::new(AT_ONCE + MAX_WAITING),
            permits: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl QueueEntry<'_> {
    /// Waits until it is at the head, in the order of the calls of [`InspectionQueue::join`]. Safe to cancel.
    /// What it gives is to be kept for as long as there is a process that inspects.
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        self.permits.clone().acquire_owned().await.ok()
    }
}
