//! One file from the hub into the cache.

use std::time::Duration;

use reqwest::{
    Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE},
};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::{
    DownloadError, DownloadProgress,
    cache::Repository,
    hub_client::{self, HubClient},
    listing::HubFile,
    partial_file::{PartialFile, PartialFileError, RepositoryGuard, Target},
};
use crate::model::HubSource;

/// Downloads of the files of one repository.
pub(super) struct Transfer<'a> {
    pub(super) client: &'a HubClient,
    pub(super) repository: &'a Repository,
    pub(super) source: &'a HubSource,
    pub(super) commit: &'a str,
    pub(super) guard: &'a RepositoryGuard,
    pub(super) writers: &'a TaskTracker,
    pub(super) progress: &'a DownloadProgress,
}

/// Why a file stopped coming.
enum TransferError {
    /// The connection broke off: what has come is good.
    Broken(DownloadError),
    /// What comes is not what was announced: what has come is of no use.
    Wrong(DownloadError),
    /// There is no use in going on now.
    Fatal(DownloadError),
}

/// Pause before a connection that broke off is taken up again.
const PAUSE: Duration = Duration::from_millis(200);

impl Transfer<'_> {
    /// Downloads `file`, from where it was left. A connection that breaks off is taken up again at once if
    /// it brought anything.
    pub(super) async fn fetch(&self, file: &HubFile) -> Result<(), DownloadError> {
        let target = Target {
            part: self.repository.part(file),
            blob: self.repository.blob(file),
            size: file.size,
            sha256: file.sha256().map(ToOwned::to_owned),
        };
        let opened = PartialFile::open(target, self.writers, self.guard.clone()).await;
        let mut part = opened.map_err(|error| self.stored(file, error))?;
        while part.len() < file.size {
            let before = part.len();
            match self.stream(file, &mut part).await {
                Ok(()) => break,
                Err(TransferError::Broken(error)) if part.len() > before => {
                    tracing::info!(file = file.name, %error, "taking the download up again");
                    sleep(PAUSE).await;
                }
                Err(TransferError::Broken(error) | TransferError::Fatal(error)) => {
                    return Err(error);
                }
                Err(TransferError::Wrong(error)) => {
                    self.progress.subtract(part.len());
                    let discarded = part.discard().await;
                    return Err(match discarded {
                        Ok(()) => error,
                        Err(failed) => self.stored(file, failed),
                    });
                }
            }
        }
        let finished = part.finish().await;
        finished.map_err(|error| {
            if matches!(error, PartialFileError::Corrupt) {
                self.progress.subtract(file.size);
            }
            self.stored(file, error)
        })
    }

    /// Reads from where `part` ends to the end of the file.
    async fn stream(&self, file: &HubFile, part: &mut PartialFile) -> Result<(), TransferError> {
        let from = part.len();
        let opened = self
            .client
            .open(self.source, self.commit, &file.name, from)
            .await;
        let mut response = opened.map_err(TransferError::Fatal)?;
        let begin = begin(&response, from, file.size).ok_or_else(|| self.wrong_size(file))?;
        if begin < from {
            self.progress.subtract(from);
            let restarted = part.restart().await;
            restarted.map_err(|error| TransferError::Fatal(self.stored(file, error)))?;
        }
        let limit = self.client.stall_timeout();
        while part.len() < file.size {
            let chunk = timeout(limit, response.chunk()).await.map_err(|_| {
                TransferError::Fatal(DownloadError::stalled(
                    &self.position_text(file, part),
                    limit,
                ))
            })?;
            let bytes = match chunk {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Err(self.broken(file, part, "the connection was closed")),
                Err(error) => {
                    return Err(self.broken(file, part, &hub_client::error_text(error)));
                }
            };
            let count = bytes.len() as u64;
            if count > file.size - part.len() {
                return Err(self.wrong_size(file));
            }
            let appended = part.append(bytes).await;
            appended.map_err(|error| TransferError::Fatal(self.stored(file, error)))?;
            self.progress.add(count);
        }
        Ok(())
    }

    fn position_text(&self, file: &HubFile, part: &PartialFile) -> String {
        let name = hub_client::file_name(self.source, &file.name);
        format!("byte {} of {} of {name}", part.len(), file.size)
    }

    fn broken(&self, file: &HubFile, part: &PartialFile, why: &str) -> TransferError {
        let position = self.position_text(file, part);
        TransferError::Broken(DownloadError::Unavailable(format!(
            "the download broke off at {position}: {why}"
        )))
    }

    fn wrong_size(&self, file: &HubFile) -> TransferError {
        TransferError::Wrong(DownloadError::Unavailable(format!(
            "the hub announced {} bytes for {} and sends another number; what had come was removed",
            file.size,
            hub_client::file_name(self.source, &file.name)
        )))
    }

    fn stored(&self, file: &HubFile, error: PartialFileError) -> DownloadError {
        let name = || hub_client::file_name(self.source, &file.name);
        match error {
            PartialFileError::Io(error) => {
                DownloadError::storage(&self.repository.part(file), &error)
            }
            PartialFileError::Busy => DownloadError::Unavailable(format!(
                "{} is being downloaded by another process; it is tried again",
                name()
            )),
            PartialFileError::Corrupt => DownloadError::Unavailable(format!(
                "what the hub sent of {} is not what it announced (its SHA-256 digest differs); it was removed",
                name()
            )),
        }
    }
}

/// The byte that `response` begins with; `None` when it is not the rest of a file of `size` bytes.
fn begin(response: &Response, from: u64, size: u64) -> Option<u64> {
    let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok());
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range = header(CONTENT_RANGE)?.strip_prefix("bytes ")?;
            let (range, total) = range.split_once('/')?;
            let (first, _) = range.split_once('-')?;
            let right = first.parse() == Ok(from) && (total == "*" || total.parse() == Ok(size));
            right.then_some(from)
        }
        StatusCode::OK => {
            let length = header(CONTENT_LENGTH).map(str::parse::<u64>);
            length.is_none_or(|length| length == Ok(size)).then_some(0)
        }
        _ => None,
    }
}
