//! The files of one repository in the cache directory.
//!
//! `blobs` holds contents by what the hub calls them, `snapshots/COMMIT` links to them by their names,
//! `refs/REVISION` names a commit, and `complete/COMMIT` lists what a load of everything needs, once all of
//! it is there.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::{DownloadError, file_names, listing::HubFile, selection};
use crate::model::HubSource;

/// Files that are whole and can be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositorySnapshot {
    /// The directory, or the GGUF file that was asked for.
    pub path: PathBuf,
    /// The commit that the revision stood for.
    pub commit: String,
}

/// When a snapshot counts as complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completeness {
    /// When this server has recorded that it is.
    Recorded,
    /// Also when it has all that a load cannot do without: others may have filled the cache.
    Any,
}

/// What is there of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Present {
    /// Bytes of its contents.
    pub(super) bytes: u64,
    /// Whether that is all, and known to be what the hub announced.
    pub(super) is_whole: bool,
}

/// One repository.
#[derive(Clone, Debug)]
pub(super) struct Repository {
    root: PathBuf,
}

impl Repository {
    /// The repository `name` in `cache_dir`, an absolute path without links.
    pub(super) fn new(cache_dir: &Path, name: &str) -> Self {
        let folder = format!("models--{}", name.replace('/', "--"));
        Self {
            root: cache_dir.join(folder),
        }
    }

    /// Where the contents of `file` are when they are whole.
    pub(super) fn blob(&self, file: &HubFile) -> PathBuf {
        self.root.join("blobs").join(&file.blob)
    }

    /// Where the contents of `file` are while they are not.
    pub(super) fn part(&self, file: &HubFile) -> PathBuf {
        self.root
            .join("blobs")
            .join(format!("{}.incomplete", file.blob))
    }

    /// Whether the contents of `file` are whole.
    pub(super) fn has(&self, file: &HubFile) -> bool {
        fs::metadata(self.blob(file)).is_ok_and(|blob| blob.is_file() && blob.len() == file.size)
    }

    /// What is there of each of `files`. Makes the directory for the others.
    pub(super) async fn present(&self, files: &[HubFile]) -> io::Result<Vec<Present>> {
        let (repository, files) = (self.clone(), files.to_vec());
        off_thread(move || {
            fs::create_dir_all(repository.root.join("blobs"))?;
            let present = |file: &HubFile| {
                if repository.has(file) {
                    return Present {
                        bytes: file.size,
                        is_whole: true,
                    };
                }
                let part = fs::metadata(repository.part(file)).map_or(0, |part| part.len());
                Present {
                    bytes: if part > file.size { 0 } else { part },
                    is_whole: false,
                }
            };
            Ok(files.iter().map(present).collect())
        })
        .await
    }

    /// Makes the snapshot of `commit` with `files`, all of which are whole, and gives it.
    pub(super) async fn publish(
        &self,
        source: &HubSource,
        commit: String,
        files: Vec<HubFile>,
    ) -> io::Result<RepositorySnapshot> {
        let (repository, source) = (self.clone(), source.clone());
        off_thread(move || {
            for file in &files {
                repository.link(&commit, file)?;
            }
            if source.files.is_empty() {
                let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
                let record = repository.root.join("complete").join(&commit);
                replace(&record, &names.join("\n"))?;
            }
            if source.revision != commit && file_names::is_inside(&source.revision) {
                replace(
                    &repository.root.join("refs").join(&source.revision),
                    &commit,
                )?;
            }
            Ok(repository.snapshot(&source, commit))
        })
        .await
    }

    /// The snapshot that `source` asks for, if it is complete in the sense of `completeness`.
    pub(super) async fn find(
        &self,
        source: &HubSource,
        completeness: Completeness,
    ) -> Result<Option<RepositorySnapshot>, DownloadError> {
        let (repository, source) = (self.clone(), source.clone());
        let find = move || Ok(repository.find_here(&source, completeness));
        off_thread(find)
            .await
            .map_err(|error| DownloadError::storage(&self.root, &error))
    }

    fn find_here(
        &self,
        source: &HubSource,
        completeness: Completeness,
    ) -> Option<RepositorySnapshot> {
        let commit = self.commit(&source.revision)?;
        let names = if source.files.is_empty() {
            self.recorded(&commit).or_else(|| match completeness {
                Completeness::Recorded => None,
                Completeness::Any => self.loadable(&commit),
            })?
        } else {
            source.files.clone()
        };
        let whole = names.iter().all(|name| self.holds(&commit, name));
        whole.then(|| self.snapshot(source, commit))
    }

    /// The commit that `revision` stood for when it was asked for last.
    fn commit(&self, revision: &str) -> Option<String> {
        if file_names::is_commit(revision) {
            return Some(revision.to_owned());
        }
        if !file_names::is_inside(revision) {
            return None;
        }
        let text = fs::read_to_string(self.root.join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| file_names::is_commit(commit))
    }

    /// The names of what a load needs, as they were recorded. A record that a loss of power has emptied or cut off is none.
    fn recorded(&self, commit: &str) -> Option<Vec<String>> {
        let text = fs::read_to_string(self.root.join("complete").join(commit)).ok()?;
        selection::choose(&text.lines().collect(), &[]).ok()
    }

    /// The names of what can be loaded, in a snapshot that others have made.
    fn loadable(&self, commit: &str) -> Option<Vec<String>> {
        let entries = fs::read_dir(self.snapshot_dir(commit)).ok()?;
        let names: BTreeSet<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        let names = names.iter().map(String::as_str).collect();
        selection::choose(&names, &[]).ok()
    }

    /// Whether the snapshot has the file `name`, and it lies in this repository.
    fn holds(&self, commit: &str, name: &str) -> bool {
        file_names::is_inside(name)
            && self
                .snapshot_dir(commit)
                .join(name)
                .canonicalize()
                .is_ok_and(|path| path.starts_with(&self.root) && path.is_file())
    }

    fn snapshot(&self, source: &HubSource, commit: String) -> RepositorySnapshot {
        let directory = self.snapshot_dir(&commit);
        let path = match selection::gguf(&source.files) {
            Some(file) => directory.join(file),
            None => directory,
        };
        RepositorySnapshot { path, commit }
    }

    fn snapshot_dir(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// Links `file` into the snapshot, in place of what has its name there.
    fn link(&self, commit: &str, file: &HubFile) -> io::Result<()> {
        if !file_names::is_inside(&file.name) {
            return Err(io::ErrorKind::InvalidFilename.into());
        }
        let path = self.snapshot_dir(commit).join(&file.name);
        let up = "../".repeat(file.name.split('/').count() + 1);
        let target = PathBuf::from(format!("{up}blobs/{}", file.blob));
        if fs::read_link(&path).is_ok_and(|there| there == target) {
            return Ok(());
        }
        let temporary = temp_sibling(&path)?;
        symlink(target, &temporary)?;
        fs::rename(temporary, path)
    }
}

/// Writes `text` to `path` so that there is never a half of it, not even after a loss of power.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let temporary = temp_sibling(path)?;
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

/// A name for what is to be moved to `path`, free and in the same directory, which is made.
fn temp_sibling(path: &Path) -> io::Result<PathBuf> {
    let missing = || io::Error::from(io::ErrorKind::InvalidFilename);
    let directory = path.parent().ok_or_else(missing)?;
    fs::create_dir_all(directory)?;
    let name = path.file_name().ok_or_else(missing)?;
    let temporary = directory.join(format!(".{}.new", name.to_string_lossy()));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(temporary),
    }
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests;
