//! Why files could not be had.

use std::{io, path::Path, time::Duration};

use crate::model::{Failure, HubSource, Reason};

/// Why the files of a repository could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownloadError {
    /// The hub wants a token, or another one.
    #[error(
        "the hub refuses {what} ({status}); give the server a token that may read it with --hub-token-file, \
         and accept the repository's terms on the hub if it has any"
    )]
    Denied {
        /// What was asked for.
        what: String,
        /// The hub's answer.
        status: u16,
    },
    /// The repository cannot be used as it is.
    #[error("{0}")]
    Unusable(String),
    /// The hub cannot be reached, or does not give what it announced. Another attempt may succeed.
    #[error("{0}")]
    Unavailable(String),
    /// There is not enough room.
    #[error("{0}")]
    StorageFull(String),
}

impl DownloadError {
    /// Whether another attempt may succeed without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    pub(super) fn offline(source: &HubSource) -> Self {
        Self::Unavailable(format!(
            "{} at {} is not complete in the cache, and the server is offline; start it without --hub-offline, \
             or fill the cache",
            source.repository, source.revision
        ))
    }

    pub(super) fn stalled(what: &str, limit: Duration) -> Self {
        Self::Unavailable(format!(
            "the hub sent nothing for {:.1} s while {what} was awaited",
            limit.as_secs_f64()
        ))
    }

    /// A failure of the cache directory.
    pub(super) fn storage(directory: &Path, error: &io::Error) -> Self {
        let message = format!(
            "{} cannot be written: {error}; free some room, or give another --hub-cache-dir",
            directory.display()
        );
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::StorageFull(message),
            _ => Self::Unusable(message),
        }
    }
}

impl From<DownloadError> for Failure {
    fn from(error: DownloadError) -> Self {
        let reason = match error {
            DownloadError::Denied { .. } => Reason::HubDenied,
            DownloadError::Unusable(_) => Reason::ModelUnusable,
            DownloadError::Unavailable(_) => Reason::HubUnavailable,
            DownloadError::StorageFull(_) => Reason::StorageFull,
        };
        Self::new(reason, error.to_string())
    }
}
