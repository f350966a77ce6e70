//! Where the entries of prepared weights are.

use std::path::PathBuf;

use super::key::Key;

/// Where an entry is or is to be.
#[derive(Debug, Clone)]
pub(crate) struct EntryLocation {
    /// Directory of all entries.
    pub(super) root: PathBuf,
    pub(super) key: Key,
    /// Largest entry that is to be written, in bytes.
    pub(super) capacity: u64,
}

impl EntryLocation {
    /// The entry's directory.
    pub(super) fn directory(&self) -> PathBuf {
        self.root.join(self.key.to_string())
    }
}
