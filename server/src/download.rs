//! Model files from a hub, in the cache directory.
//!
//! The cache has the layout of the hub's own tools (`blobs`, `snapshots`, `refs`), so that they can fill it
//! or read it. Invariants: a file has its name in `blobs` only when it is whole and is what the hub
//! announced; a snapshot is recorded as complete only when all of its files are; a repository is downloaded
//! by one load at a time, and another waits.

mod cache;
mod error;
mod file_names;
mod hub_client;
mod hub_token;
mod listing;
mod options;
mod partial_file;
mod progress;
mod repositories;
mod selection;
mod space;
mod transfer;

use std::{collections::HashSet, fs::DirBuilder, io, os::unix::fs::DirBuilderExt, sync::Arc};

pub use cache::RepositorySnapshot;
pub use error::DownloadError;
use futures::{StreamExt, TryStreamExt, stream};
pub use hub_token::HubToken;
pub use options::HubOptions;
pub use progress::DownloadProgress;
pub use repositories::Repositories;
use tokio_util::task::TaskTracker;

use self::{
    cache::{Completeness, Repository},
    hub_client::HubClient,
    listing::HubFile,
    partial_file::RepositoryGuard,
    transfer::Transfer,
};
use crate::{keyed_locks::KeyedLocks, model::HubSource};

/// Downloads of one server. Its files are written by tasks that [`Downloads::close`] waits for.
#[derive(Debug)]
pub struct Downloads {
    options: HubOptions,
    /// By name.
    repository_locks: KeyedLocks<String>,
    writers: TaskTracker,
}

/// Files of a repository that are downloaded at the same time.
const PARALLEL_FILES: usize = 4;

impl Downloads {
    /// Downloads as `options` say; creates the cache directory, for this user alone, where it is missing.
    ///
    /// # Errors
    ///
    /// When the directory cannot be created or resolved.
    pub fn new(options: HubOptions) -> io::Result<Self> {
        let mut maker = DirBuilder::new();
        maker.recursive(true).mode(0o700);
        maker.create(&options.cache_dir)?;
        let cache_dir = options.cache_dir.canonicalize()?;
        Ok(Self {
            options: HubOptions {
                cache_dir,
                ..options
            },
            repository_locks: KeyedLocks::default(),
            writers: TaskTracker::new(),
        })
    }

    /// Brings the files of `source` into the cache, as far as they are not there, and gives the snapshot
    /// with them. What was done is reported to `progress`.
    ///
    /// A snapshot of a commit that is complete is used without asking the hub; one of a branch or tag also
    /// when the hub cannot be reached. Safe to cancel: what has come stays, and the next download of it
    /// goes on from there.
    ///
    /// # Errors
    ///
    /// See [`DownloadError`].
    pub async fn fetch(
        &self,
        source: &HubSource,
        progress: &DownloadProgress,
    ) -> Result<RepositorySnapshot, DownloadError> {
        let name = source.repository.as_str();
        let lock = self.repository_locks.lock(name.to_owned());
        let guard: RepositoryGuard = Arc::new(lock.await);
        let repository = Repository::new(&self.options.cache_dir, name);
        if file_names::is_commit(&source.revision)
            && let Some(snapshot) = repository.find(source, Completeness::Recorded).await?
        {
            return Ok(snapshot);
        }
        if self.options.offline {
            let found = repository.find(source, Completeness::Any).await?;
            return found.ok_or_else(|| DownloadError::offline(source));
        }
        let client = HubClient::new(&self.options).await?;
        let listing = match client.list(source).await {
            Ok(listing) => listing,
            Err(error) if error.is_transient() => {
                let found = repository.find(source, Completeness::Any).await?;
                let snapshot = found.ok_or_else(|| error.clone())?;
                tracing::warn!(repository = %source.repository, commit = snapshot.commit, %error,
                    "the hub is not available; using what was downloaded before");
                return Ok(snapshot);
            }
            Err(error) => return Err(error),
        };
        let files = client.describe(source, &listing).await?;
        let transfer = Transfer {
            client: &client,
            repository: &repository,
            source,
            commit: &listing.commit,
            guard: &guard,
            writers: &self.writers,
            progress,
        };
        self.download_missing(&transfer, &files).await?;
        repository
            .publish(source, listing.commit, files)
            .await
            .map_err(|error| DownloadError::storage(&self.options.cache_dir, &error))
    }

    /// Waits until no file is being written any more. Downloads have to be cancelled before.
    pub async fn close(&self) {
        self.writers.close();
        self.writers.wait().await;
    }

    /// Downloads what is missing of `files`.
    async fn download_missing(
        &self,
        transfer: &Transfer<'_>,
        files: &[HubFile],
    ) -> Result<(), DownloadError> {
        let directory = &self.options.cache_dir;
        let present = transfer.repository.present(files).await;
        let present = present.map_err(|error| DownloadError::storage(directory, &error))?;
        let total = files
            .iter()
            .fold(0, |sum: u64, file| sum.saturating_add(file.size));
        let done = present.iter().map(|present| present.bytes).sum();
        transfer.progress.begin(total, done);
        // Two files may have the same contents.
        let mut blobs = HashSet::new();
        let missing: Vec<_> = files
            .iter()
            .zip(&present)
            .filter(|(file, present)| !present.is_whole && blobs.insert(&file.blob))
            .map(|(file, _)| file)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        space::check(directory, total.saturating_sub(done))?;
        tracing::info!(
            repository = %transfer.source.repository,
            commit = transfer.commit,
            files = missing.len(),
            bytes = total,
            held = done,
            "model.download"
        );
        stream::iter(missing)
            .map(Ok)
            .try_for_each_concurrent(PARALLEL_FILES, |file| transfer.fetch(file))
            .await
    }
}
