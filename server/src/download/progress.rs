//! Bytes of a download, for those who look on.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

/// How far a download is. Clones look at the same one.
#[derive(Clone, Debug, Default)]
pub struct DownloadProgress(Arc<DownloadCounters>);

#[derive(Debug, Default)]
struct DownloadCounters {
    total: OnceLock<u64>,
    done: AtomicU64,
}

impl DownloadProgress {
    /// Bytes that are there, and bytes of all files, those included that were there before. `None` until
    /// that is known.
    pub fn bytes(&self) -> Option<(u64, u64)> {
        let total = *self.0.total.get()?;
        Some((self.0.done.load(Ordering::Relaxed).min(total), total))
    }

    pub(super) fn begin(&self, total: u64, done: u64) {
        self.0.done.store(done, Ordering::Relaxed);
        // A progress belongs to one download.
        let _ = self.0.total.set(total);
    }

    pub(super) fn add(&self, bytes: u64) {
        self.0.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that turned out to be of no use.
    pub(super) fn subtract(&self, bytes: u64) {
        let less = |done: u64| Some(done.saturating_sub(bytes));
        // The closure always gives a value.
        let _ = self
            .0
            .done
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}
