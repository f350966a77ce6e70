//! What an entry consists of, as a JSON file in it. Written last: an entry without one is none.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::digest;

/// Name of the file.
pub(super) const NAME: &str = "manifest.json";

/// Version of an entry's format. Entries of other versions have other keys.
pub(super) const FORMAT: u32 = 1;

/// Name of an empty file that every entry has. The engine looks for it and makes nothing of it.
pub(super) const CONFIG: &str = "config.json";

/// Longest manifest in bytes.
const MAX_LENGTH: u64 = 1 << 20;

/// An entry's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// [`FORMAT`] of its writer.
    pub(super) format: u32,
    /// The entry's key.
    pub(super) key: String,
    /// What the key was made from, for people.
    pub(super) source: EntrySource,
    /// The engine cannot load what it wrote; the entry has no files.
    pub(super) useless: bool,
    /// The entry's other files.
    pub(super) files: Vec<FileRecord>,
}

/// What prepared weights depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EntrySource {
    /// Version of the engine.
    pub(super) engine: String,
    /// Kind of device.
    pub(super) device: String,
    /// Data type of what is not quantized.
    pub(super) dtype: String,
    /// Type of quantization.
    pub(super) quantization: String,
    /// Digest of what else the spec says; empty: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) spec: String,
    /// Digest of config.json.
    pub(super) config: String,
    /// Name, size, time of the last change, inode and sample of each file.
    pub(super) weights: Vec<String>,
}

/// A file of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileRecord {
    /// Its name in the entry's directory.
    pub(super) name: String,
    /// Its size in bytes.
    pub(super) size: u64,
    /// When it was last changed: seconds and nanoseconds.
    pub(super) modified: (i64, i64),
    /// Digest of some of its blocks.
    pub(super) sample: String,
    /// Digest of all of it.
    pub(super) sha256: String,
}

impl Manifest {
    /// Reads the manifest in `directory`; `None` where there is no such directory.
    pub(super) fn read(directory: &Path) -> io::Result<Option<Self>> {
        if !directory.try_exists()? {
            return Ok(None);
        }
        let file = File::open(directory.join(NAME))?;
        let mut bytes = Vec::new();
        file.take(MAX_LENGTH).read_to_end(&mut bytes)?;
        Ok(Some(serde_json::from_slice(&bytes)?))
    }
}

impl FileRecord {
    /// The record of a file in `directory`. Reads all of it, and makes sure that it is on the disk.
    pub(super) fn of(directory: &Path, name: &str) -> io::Result<Self> {
        let file = File::open(directory.join(name))?;
        file.sync_all()?;
        let about = file.metadata()?;
        Ok(Self {
            name: name.to_owned(),
            size: about.len(),
            modified: (about.mtime(), about.mtime_nsec()),
            sample: digest::sample(&file)?,
            sha256: digest::whole(&file)?,
        })
    }

    /// Whether the file in `directory` is the one that was recorded, as far as size, time and some blocks
    /// tell.
    pub(super) fn seems_intact(&self, directory: &Path) -> io::Result<bool> {
        if !is_plain(&self.name) {
            return Ok(false);
        }
        let file = File::open(directory.join(&self.name))?;
        let about = file.metadata()?;
        Ok(about.is_file()
            && about.len() == self.size
            && (about.mtime(), about.mtime_nsec()) == self.modified
            && digest::sample(&file)? == self.sample)
    }

    /// Whether every byte is as it was recorded.
    pub(super) fn is_intact(&self, directory: &Path) -> io::Result<bool> {
        Ok(digest::whole(&File::open(directory.join(&self.name))?)? == self.sha256)
    }
}

/// Whether this is the name of a file of an entry, and no path to somewhere else.
pub(super) fn is_plain(name: &str) -> bool {
    if name == CONFIG {
        return true;
    }
    let stem = name
        .strip_suffix(".safetensors")
        .or(name.strip_suffix(".uqff"));
    stem.is_some_and(|stem| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !stem.is_empty() && stem.chars().all(is_plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn names_that_lead_elsewhere_are_no_files_of_an_entry() {
        assert!(is_plain("weights-0.uqff"));
        assert!(is_plain("residual.safetensors"));
        for name in [
            "../a.uqff",
            "/a.uqff",
            "a/b.uqff",
            ".uqff",
            "tokenizer.json",
        ] {
            assert!(!is_plain(name), "{name}");
        }
    }

    #[bounded::test]
    fn a_changed_byte_is_noticed_whatever_the_time_says() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.uqff");
        std::fs::write(&path, vec![0; 1 << 20]).expect("a file");
        let record = FileRecord::of(directory.path(), "a.uqff").expect("a record");
        assert!(record.seems_intact(directory.path()).expect("a look"));
        let mut bytes = std::fs::read(&path).expect("the file");
        bytes[100_000] = 1;
        let time = std::fs::metadata(&path).and_then(|about| about.modified());
        std::fs::write(&path, bytes).expect("a file");
        assert!(!record.seems_intact(directory.path()).expect("a look"));
        let file = File::options().write(true).open(&path).expect("the file");
        file.set_modified(time.expect("a time")).expect("a time");
        assert!(record.seems_intact(directory.path()).expect("a look"));
        assert!(!record.is_intact(directory.path()).expect("a look"));
    }
}
