//! An entry that is being written.
//!
//! It has a directory of its own beside the entries, named by the key and this process, so that what is
//! left of a killed worker is recognised and never taken for an entry.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{
    location::EntryLocation,
    manifest::{self, FORMAT, FileRecord, Manifest},
};

/// Name of the engine's files: it adds a number.
const WEIGHTS: &str = "weights.uqff";

/// What has to stay free on the disk beyond the entry.
const SPARE: u64 = 64 << 20;

/// An entry that is being written. Leaves its directory behind unless it is finished or discarded.
#[derive(Debug)]
pub(crate) struct EntryDraft {
    directory: PathBuf,
    location: EntryLocation,
}

impl EntryDraft {
    /// Makes room for an entry of about so many bytes. What is in its location is no usable entry, and goes.
    ///
    /// # Errors
    ///
    /// When it is larger than entries may be, does not fit on the disk, or nothing can be written.
    pub(crate) fn begin(location: &EntryLocation, bytes: u64) -> io::Result<Self> {
        if bytes > location.capacity {
            return Err(io::Error::other(format!(
                "{bytes} bytes are more than the cache may hold"
            )));
        }
        let about = rustix::fs::statvfs(&location.root)?;
        let free = about.f_bavail.saturating_mul(about.f_frsize);
        if bytes.saturating_add(SPARE) > free {
            return Err(io::Error::other(format!(
                "{bytes} bytes do not fit on the disk, of which {free} are free"
            )));
        }
        let name = format!("{}.partial-{}", location.key, std::process::id());
        let directory = location.root.join(name);
        std::fs::create_dir(&directory)?;
        let draft = Self {
            directory,
            location: location.clone(),
        };
        match remove(&location.directory()) {
            Ok(()) => Ok(draft),
            Err(error) => {
                draft.discard();
                Err(error)
            }
        }
    }

    /// Where the engine is to write, with the name that it asks for.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join(WEIGHTS)
    }

    /// Whether the engine has not begun to write.
    pub(crate) fn is_empty(&self) -> bool {
        std::fs::read_dir(&self.directory).is_ok_and(|mut files| files.next().is_none())
    }

    /// Makes an entry of what was written, and gives its size in bytes: zero if another worker was faster.
    /// Blocks; reads everything that was written.
    pub(crate) fn finish(self) -> io::Result<u64> {
        self.finish_with(false)
    }

    /// Makes an entry that says that there cannot be one.
    pub(super) fn finish_useless(self) -> io::Result<()> {
        self.finish_with(true).map(|_| ())
    }

    /// Gives it up.
    pub(crate) fn discard(self) {
        if let Err(error) = remove(&self.directory) {
            tracing::warn!(%error, "a half-written entry could not be removed");
        }
    }

    fn finish_with(self, useless: bool) -> io::Result<u64> {
        let published = self.record(useless).and_then(|bytes| {
            let published = self.publish()?;
            Ok(if published { bytes } else { 0 })
        });
        if !matches!(published, Ok(1..)) {
            self.discard();
        }
        published
    }

    /// Writes the manifest and gives the size of the entry.
    fn record(&self, useless: bool) -> io::Result<u64> {
        let mut files = Vec::new();
        // In location of the engine's copy of the model's.
        File::create(self.directory.join(manifest::CONFIG))?;
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if manifest::is_plain(&name) {
                files.push(FileRecord::of(&self.directory, &name)?);
            } else {
                // The engine's copies of the tokenizer and the like: the model's own are used.
                std::fs::remove_file(entry.path())?;
            }
        }
        let bytes = files.iter().map(|file| file.size).sum();
        let manifest = Manifest {
            format: FORMAT,
            key: self.location.key.to_string(),
            source: self.location.key.source().clone(),
            useless,
            files,
        };
        let mut file = File::create(self.directory.join(manifest::NAME))?;
        file.write_all(&serde_json::to_vec_pretty(&manifest)?)?;
        file.sync_all()?;
        sync(&self.directory)?;
        Ok(bytes)
    }

    /// Gives it its name; `false` if an entry has it already.
    fn publish(&self) -> io::Result<bool> {
        match std::fs::rename(&self.directory, self.location.directory()) {
            Ok(()) => sync(&self.location.root).map(|()| true),
            Err(error) if is_taken(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
    )
}

fn remove(directory: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes sure that the names in a directory are on the disk.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
