//! The directory of the entries, as far as the server knows about it: names, sizes and times.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// A directory of entries.
#[derive(Debug)]
pub(super) struct Directory(PathBuf);

/// An entry.
#[derive(Debug)]
pub(super) struct PreparedEntry {
    pub(super) key: String,
    /// Size of its files in bytes.
    pub(super) size: u64,
    /// When it was last used.
    pub(super) used: SystemTime,
}

/// The file of an entry that is written last, and whose time says when the entry was used.
const MANIFEST: &str = "manifest.json";

/// Length of a key.
const KEY_LENGTH: usize = 64;

/// What follows the key in the name of an entry that is being written, before its writer's process id.
const DRAFT: &str = ".partial-";

/// What follows the key in the name of an entry that is being removed.
const REMOVED: &str = ".removed";

/// Whether this can be the name of an entry.
pub(super) fn is_key(name: &str) -> bool {
    name.len() == KEY_LENGTH && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Directory {
    /// Makes the directory where it is missing.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// All entries that are whole. What cannot be read is none.
    pub(super) fn entries(&self) -> Vec<PreparedEntry> {
        let names = self.names();
        let keys = names.into_iter().filter(|name| is_key(name));
        keys.filter_map(|key| self.entry(key).ok()).collect()
    }

    /// Removes what processes that were killed have not finished.
    pub(super) fn remove_leftovers(&self) {
        for name in self.names() {
            if name.contains(DRAFT) || name.ends_with(REMOVED) {
                self.remove(&name);
            }
        }
    }

    /// Removes what the process `worker` has not finished.
    pub(super) fn remove_draft(&self, key: &str, worker: u32) {
        self.remove(&format!("{key}{DRAFT}{worker}"));
    }

    /// Takes its name from an entry that is to be removed, and gives its path then.
    pub(super) fn set_aside(&self, key: &str) -> io::Result<PathBuf> {
        let path = self.0.join(format!("{key}{REMOVED}"));
        fs::rename(self.0.join(key), &path)?;
        Ok(path)
    }

    /// Notes that an entry is used now.
    pub(super) fn touch(&self, key: &str) {
        let path = self.0.join(key).join(MANIFEST);
        let touched = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = touched {
            tracing::debug!(key, %error, "the use of prepared weights cannot be noted");
        }
    }

    fn entry(&self, key: String) -> io::Result<PreparedEntry> {
        let path = self.0.join(&key);
        let used = fs::metadata(path.join(MANIFEST))?.modified()?;
        let mut size = 0;
        for file in fs::read_dir(path)? {
            size += file?.metadata()?.len();
        }
        Ok(PreparedEntry { key, size, used })
    }

    fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.0) else {
            return Vec::new();
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.collect()
    }

    fn remove(&self, name: &str) {
        match fs::remove_dir_all(self.0.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(name, %error, "unfinished prepared weights cannot be removed");
            }
            _ => {}
        }
    }
}
