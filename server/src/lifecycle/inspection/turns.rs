//! Whose turn it is to inspect ahead of a reload. Few do at the same time, and not many wait.

use tokio::sync::{Semaphore, SemaphorePermit};

/// The turns of one server.
#[derive(Debug)]
pub(super) struct InspectionTurns {
    /// For those that inspect and those that wait.
    places: Semaphore,
    turns: Semaphore,
}

/// A place in the queue, or at its head.
#[derive(Debug)]
pub(super) struct Place<'a> {
    turns: &'a Semaphore,
    _place: SemaphorePermit<'a>,
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

impl InspectionTurns {
    /// Takes a place in the queue.
    ///
    /// # Errors
    ///
    /// When it is full.
    pub(super) fn queue_up(&self) -> Result<Place<'_>, TooManyReloads> {
        let place = self.places.try_acquire();
        // They are never closed.
        let place = place.map_err(|_| TooManyReloads { limit: MAX_WAITING })?;
        Ok(Place {
            turns: &self.turns,
            _place: place,
        })
    }
}

impl Default for InspectionTurns {
    fn default() -> Self {
        Self {
            places: Semaphore::new(AT_ONCE + MAX_WAITING),
            turns: Semaphore::new(AT_ONCE),
        }
    }
}

impl Place<'_> {
    /// Waits for the turn, in the order of this call. Safe to cancel.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire().await.ok()
    }
}
