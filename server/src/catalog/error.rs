//! What the catalog refuses, and what the disk under it refuses.

use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::{ErrorCode, ffi};
use rustix::io::Errno;

use super::CatalogEntry;
use crate::model::{Etag, ModelId};

/// A catalog that cannot be used. Its file was left as it is.
#[derive(Debug, thiserror::Error)]
pub enum OpenCatalogError {
    /// A newer server has written it.
    #[error(
        "the catalog {} is of version {found}, which a newer hangar has written; this one knows versions up to \
         {known}. Start that one again, or move the file away (with its -wal and -shm) to begin with an \
         empty catalog; nothing was changed", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The last version that this server knows.
        known: i64,
    },
    /// It is damaged, or something else.
    #[error(
        "the catalog {} cannot be used: {cause}. Restore it from a backup, or move it away (with its -wal and \
         -shm) to begin with an empty catalog; nothing was changed", path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// It cannot be written.
    #[error(
        "the catalog {} cannot be written: {cause}. Make the file and its directory writable for the user that \
         hangar runs as, or give another --data-dir; nothing was changed", path.display()
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: String,
    },
    /// Something else that it needs of the system.
    #[error(
        "the catalog {} cannot be opened: {cause}. Mend what the system complains about and start again; no \
         entry was changed", path.display()
    )]
    System {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: String,
    },
}

/// The disk did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// There is no room for what was to be written.
    #[error("the disk that the catalog is on is full")]
    Full,
    /// Something else.
    #[error("the catalog: {0}")]
    Failed(String),
}

/// A name that is taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name {name} is taken by the model {by}")]
pub struct NameTaken {
    /// The name: an id or an alias.
    pub name: ModelId,
    /// The model that it stands for.
    pub by: ModelId,
}

/// A spec that was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The model is registered with another spec.
    #[error("the model is registered with another spec")]
    Conflict(Box<CatalogEntry>),
    /// The id or an alias is taken.
    #[error(transparent)]
    Taken(#[from] NameTaken),
    /// There are as many models as there may be.
    #[error("there are {0} models already")]
    Full(usize),
    /// The model is declared in the configuration file and changed there only.
    #[error("the model {0} is declared in the configuration file")]
    Declared(ModelId),
    /// No such model is registered.
    #[error("no model {0} is registered")]
    Unknown(ModelId),
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// An entry that was not changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// No such model is registered.
    #[error("no such model is registered")]
    Unknown,
    /// The entry has another etag.
    #[error("the entry was changed meanwhile")]
    Stale(Etag),
    /// The model is declared in the configuration file and changed there only.
    #[error("the model is declared in the configuration file")]
    Declared,
    /// An alias is taken.
    #[error(transparent)]
    Taken(#[from] NameTaken),
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// An entry that was not removed.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// No such model is registered.
    #[error("no such model is registered")]
    Unknown,
    /// The entry has another etag.
    #[error("the entry was changed meanwhile")]
    Stale(Etag),
    /// The model is declared in the configuration file and changed there only.
    #[error("the model is declared in the configuration file")]
    Declared,
    /// It has aliases.
    #[error("the model has aliases")]
    Aliased(Vec<ModelId>),
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Declarations that were not taken over.
#[derive(Debug, thiserror::Error)]
pub enum DeclareError {
    /// An id or an alias is taken.
    #[error("models: {0}; give the declared model another id or alias, or delete the other one")]
    Taken(#[from] NameTaken),
    /// There would be more models than there may be.
    #[error("models: with those declared there would be more than {0} models; raise --max-models")]
    Full(usize),
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl OpenCatalogError {
    /// What `error` says about the file at `path`.
    pub(super) fn of(path: &Path, error: &rusqlite::Error) -> Self {
        let path = path.to_owned();
        let cause = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::Corrupt { path, cause }
            }
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                Self::ReadOnly { path, cause }
            }
            // What is in it is not what a catalog holds.
            None => Self::Corrupt { path, cause },
            Some(_) => Self::System { path, cause },
        }
    }

    pub(super) fn system(path: &Path, error: &io::Error) -> Self {
        let path = path.to_owned();
        let cause = error.to_string();
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly { path, cause }
            }
            _ => Self::System { path, cause },
        }
    }
}

impl From<rusqlite::Error> for StorageError {
    /// Has to be called on the thread that met the error, right away: SQLite distinguishes a quota and a limit on
    /// the size of files by the system's last error only.
    fn from(error: rusqlite::Error) -> Self {
        let last = io::Error::last_os_error();
        let is_full = || {
            [Errno::FBIG, Errno::DQUOT, Errno::NOSPC]
                .iter()
                .any(|errno| last.raw_os_error() == Some(errno.raw_os_error()))
        };
        match error.sqlite_error() {
            Some(e) if e.code == ErrorCode::DiskFull => Self::Full,
            Some(e)
                if matches!(
                    e.extended_code,
                    ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_SHMSIZE | ffi::SQLITE_IOERR_FSYNC
                ) && is_full() =>
            {
                Self::Full
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

macro_rules! from_rusqlite {
    ($($error:ty),*) => {$(
        impl From<rusqlite::Error> for $error {
            fn from(error: rusqlite::Error) -> Self {
                Self::Storage(error.into())
            }
        }
    )*};
}

from_rusqlite!(RegisterError, UpdateError, DeleteError, DeclareError);
