//! The cache of prepared weights: what workers have quantized once, kept for later loads.
//!
//! Workers write and read the entries; the server owns their directory: its size is bounded, the entries
//! that were not used for longest go first, and none goes that a living worker uses. What is in an entry is
//! the workers' affair. An entry's files are never changed, so nothing here can harm a load: where an entry
//! is missing, the weights are quantized anew.

mod directory;

use std::{
    collections::{HashMap, HashSet},
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use directory::Directory;
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::model::{ModelId, Spec};

/// The cache. Cheap to share.
#[derive(Debug)]
pub struct PreparedCache {
    directory: Directory,
    limit: u64,
    index: Mutex<CacheIndex>,
    /// One model writes at a time.
    writer: Semaphore,
}

/// What there is of prepared weights, and what they were good for since the server started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheReport {
    /// Size of all entries in bytes.
    pub size: u64,
    /// Number of entries.
    pub entries: u64,
    /// Loads that used an entry.
    pub hits: u64,
    /// Loads that could have used one, had there been one.
    pub misses: u64,
}

/// A worker's use of an entry, which stays as long as this is not ended.
#[derive(Debug)]
pub struct PreparedLease {
    cache: Arc<PreparedCache>,
    model: ModelId,
    key: String,
    worker: u32,
}

/// What a worker needs to know of the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreparedAccess {
    /// Directory of the entries.
    pub directory: PathBuf,
    /// Largest entry in bytes that is worth writing.
    pub capacity: u64,
    /// Entries whose digests were checked since the server started.
    pub verified: Vec<String>,
}

#[derive(Debug, Default)]
struct CacheIndex {
    report: CacheReport,
    /// Entries whose digests a worker has checked since the server started.
    verified: HashSet<String>,
    /// Living workers of each entry.
    leases: HashMap<String, usize>,
}

impl PreparedCache {
    /// The cache in `directory`, of at most `limit` bytes. What killed workers have left there goes. Blocks.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made.
    pub fn open(directory: PathBuf, limit: u64) -> io::Result<Arc<Self>> {
        let directory = Directory::open(directory)?;
        directory.remove_leftovers();
        let cache = Self {
            directory,
            limit,
            index: Mutex::default(),
            writer: Semaphore::new(1),
        };
        cache.tidy();
        Ok(Arc::new(cache))
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What there is.
    pub fn report(&self) -> CacheReport {
        self.index().report
    }

    /// What a worker for `spec` needs to know of the cache; `None` for a model that can make no use of it.
    pub fn access_for(&self, spec: &Spec) -> Option<PreparedAccess> {
        let is_quantized = spec.quantization.is_some();
        is_quantized.then(|| PreparedAccess {
            directory: self.directory.path().to_path_buf(),
            capacity: self.limit,
            verified: self.index().verified.iter().cloned().collect(),
        })
    }

    /// The lease of a worker that has found the entry `key`, or where that is to be. `None` for what is no key.
    pub fn lease(
        self: &Arc<Self>,
        model: &ModelId,
        worker: u32,
        key: &str,
    ) -> Option<PreparedLease> {
        if !directory::is_key(key) {
            return None;
        }
        *self.index().leases.entry(key.to_owned()).or_default() += 1;
        Some(PreparedLease {
            cache: self.clone(),
            model: model.clone(),
            key: key.to_owned(),
            worker,
        })
    }

    /// Brings the size below the limit, and the figures up to date. Blocks.
    fn tidy(&self) {
        let mut entries = self.directory.entries();
        entries.sort_by_key(|entry| entry.used);
        let mut size: u64 = entries.iter().map(|entry| entry.size).sum();
        let mut count = entries.len() as u64;
        for entry in entries {
            if size <= self.limit {
                break;
            }
            // Set aside under the lock: no worker can take a lease of it in between.
            let set_aside = {
                let mut index = self.index();
                if index.leases.contains_key(&entry.key) {
                    continue;
                }
                index.verified.remove(&entry.key);
                self.directory.set_aside(&entry.key)
            };
            let removed = set_aside.and_then(std::fs::remove_dir_all);
            match removed {
                Ok(()) => {
                    tracing::info!(
                        key = entry.key,
                        bytes = entry.size,
                        "prepared weights were evicted"
                    );
                    size -= entry.size;
                    count -= 1;
                }
                Err(error) => {
                    tracing::warn!(key = entry.key, %error, "prepared weights cannot be removed");
                }
            }
        }
        let report = &mut self.index().report;
        report.size = size;
        report.entries = count;
    }

    fn index(&self) -> MutexGuard<'_, CacheIndex> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PreparedLease {
    /// The engine was built, from `prepared` weights or not.
    pub async fn built(&self, prepared: bool) {
        {
            let mut index = self.cache.index();
            if prepared {
                index.report.hits += 1;
                // The worker has checked them if it was not informed that this was done before.
                index.verified.insert(self.key.clone());
            } else {
                index.report.misses += 1;
                index.verified.remove(&self.key);
            }
        }
        if prepared {
            let (cache, key) = (self.cache.clone(), self.key.clone());
            wait(move || cache.directory.touch(&key)).await;
        }
    }

    /// Has the worker make an entry of what it has written while it loaded, when no other does: `write` does so, and
    /// gives the entry's size in bytes. Safe to
    /// cancel: the worker goes on as long as it lives.
    pub async fn write<E: fmt::Display>(&self, write: impl Future<Output = Result<u64, E>>) {
        let Ok(_permit) = self.cache.writer.acquire().await else {
            return;
        };
        let model = &self.model;
        match write.await {
            Ok(bytes) => {
                if bytes > 0 {
                    self.cache.index().verified.insert(self.key.clone());
                    tracing::info!(%model, key = self.key, bytes, "prepared weights were written");
                }
            }
            Err(error) => {
                tracing::warn!(%model, %error, "prepared weights could not be written");
            }
        }
        self.tidy().await;
    }

    /// The worker is gone: what it has not finished goes too.
    pub async fn end(self) {
        {
            let mut index = self.cache.index();
            if let Some(count) = index.leases.get_mut(&self.key) {
                *count -= 1;
                if *count == 0 {
                    index.leases.remove(&self.key);
                }
            }
        }
        let cache = self.cache.clone();
        wait(move || cache.directory.remove_draft(&self.key, self.worker)).await;
        let cache = self.cache.clone();
        wait(move || cache.tidy()).await;
    }

    async fn tidy(&self) {
        let cache = self.cache.clone();
        wait(move || cache.tidy()).await;
    }
}

/// Does what blocks where it may.
async fn wait(work: impl FnOnce() + Send + 'static) {
    if let Err(error) = spawn_blocking(work).await {
        tracing::error!(%error, "the cache of prepared weights");
    }
}

#[cfg(test)]
mod tests;
