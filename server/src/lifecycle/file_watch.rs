//! Whether the files of a loaded model are still those that it was loaded from.
//!
//! They are recognised by their names, sizes, times and inodes; nothing is opened. A file system that hangs holds up
//! a thread and nobody else: a driver has one look at a time, and everybody waits for a bounded time.

use std::{
    collections::BTreeMap,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{task::JoinSet, time::Instant};

use super::file_system::{FileSystems, FsAccess, TimeLimit, Unresponsive};
use crate::{
    model::{Source, Spec},
    worker::ModelFiles,
};

/// The files of a model as they were when its worker was started.
#[derive(Clone, Debug)]
pub(super) struct LoadedFiles {
    /// What was given, links not resolved.
    paths: Vec<PathBuf>,
    fingerprints: Fingerprints,
    file_systems: FileSystems,
}

/// The driver's eye on the files of its model.
#[derive(Debug, Default)]
pub(super) struct FileWatch {
    /// One at most.
    comparisons: JoinSet<Option<FilesChange>>,
    last: Option<Instant>,
}

/// What has become of a model's files: in words, where they are not what they were.
pub(super) type FilesChange = Option<String>;

/// Files by their paths.
type Fingerprints = BTreeMap<PathBuf, FileFingerprint>;

/// What distinguishes a file from what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileFingerprint {
    bytes: u64,
    modified: (i64, i64),
    inode: u64,
}

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(2);

/// How long somebody waits who asks for a look of his own.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a driver waits, which has time: a file system may be slow.
const WATCH_TIMEOUT: Duration = Duration::from_secs(60);

/// More files than a model has.
const MAX_FILES: usize = 10_000;

/// Extensions of the files that engines read.
const EXTENSIONS: &[&str] = &["safetensors", "gguf", "uqff", "json", "jinja"];

impl LoadedFiles {
    /// The files that a worker is about to read whose model has this `spec`, and its own ones there. `None` where there are none, or they cannot be looked
    /// at.
    ///
    /// # Errors
    ///
    /// When that does not end within `limit`.
    pub(super) async fn record(
        spec: &Spec,
        files: &ModelFiles,
        file_systems: &FileSystems,
        limit: TimeLimit,
    ) -> Result<Option<Self>, Unresponsive> {
        let given = match (&spec.source, files) {
            (Source::Path(path), _) => Some(path),
            (Source::HuggingFace(_), ModelFiles::Path(path)) => Some(path),
            _ => None,
        };
        let given = given.map(PathBuf::as_path);
        let paths: Vec<_> = given
            .into_iter()
            .chain(spec.auxiliary_paths())
            .map(Path::to_path_buf)
            .collect();
        let fingerprints = scan(file_systems, FsAccess::Start, &paths, limit).await?;
        let fingerprints = fingerprints.filter(|fingerprints| !fingerprints.is_empty());
        Ok(fingerprints.map(|fingerprints| Self {
            paths,
            fingerprints,
            file_systems: file_systems.clone(),
        }))
    }

    /// A digest that other files do not have: of their names, sizes and times. Not of inodes, which a volume that is mounted
    /// anew may give others.
    pub(super) fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for (path, fingerprint) in &self.fingerprints {
            let (seconds, nanoseconds) = fingerprint.modified;
            digest.update(path.as_os_str().as_encoded_bytes());
            digest.update(format!("\0{} {seconds} {nanoseconds}\0", fingerprint.bytes));
        }
        format!("{:x}", digest.finalize())
    }

    /// Looks whether they have changed; `None` where that is not known within `limit`.
    async fn compare(&self, limit: Duration) -> Option<FilesChange> {
        let limit = TimeLimit::new(limit);
        let now = scan(&self.file_systems, FsAccess::Compare, &self.paths, limit).await;
        now.ok()?.map(|now| difference(&self.fingerprints, &now))
    }

    /// Whether they have changed, as far as that is known within a short time.
    pub(super) async fn change(&self) -> FilesChange {
        self.compare(QUERY_TIMEOUT).await?
    }
}

impl FileWatch {
    /// Begins to look at `loaded`, unless it is looking or did just before.
    pub(super) fn check(&mut self, loaded: Option<Arc<LoadedFiles>>) {
        let due = self.last.is_none_or(|last| last.elapsed() >= INTERVAL);
        if let Some(loaded) = loaded.filter(|_| due && self.comparisons.is_empty()) {
            self.last = Some(Instant::now());
            self.comparisons
                .spawn(async move { loaded.compare(WATCH_TIMEOUT).await });
        }
    }

    /// What the look that is under way has seen; `None`: nothing is known. Safe to cancel; waits for ever
    /// when there is none.
    pub(super) async fn seen(&mut self) -> Option<FilesChange> {
        match self.comparisons.join_next().await {
            Some(seen) => seen.ok().flatten(),
            None => std::future::pending().await,
        }
    }
}

/// What there is at all `paths`; `None` where that cannot be looked at.
async fn scan(
    file_systems: &FileSystems,
    access: FsAccess,
    paths: &[PathBuf],
    limit: TimeLimit,
) -> Result<Option<Fingerprints>, Unresponsive> {
    let mut fingerprints = Fingerprints::new();
    for path in paths {
        let at = path.clone();
        let found = file_systems.run(access, path, limit, move || read(&at));
        match found.await? {
            Ok(found) => fingerprints.extend(found),
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(fingerprints))
}

/// What there is at `path`, and in it where it is a directory. Blocks.
fn read(path: &Path) -> io::Result<Fingerprints> {
    let mut fingerprints = Fingerprints::new();
    match path.canonicalize() {
        Ok(resolved) if resolved.is_dir() => read_directory(&resolved, true, &mut fingerprints)?,
        Ok(resolved) => record_fingerprint(&resolved, &mut fingerprints)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(fingerprints)
}

fn read_directory(
    directory: &Path,
    deeper: bool,
    fingerprints: &mut Fingerprints,
) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        if fingerprints.len() >= MAX_FILES {
            return Ok(());
        }
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            // The modules of an embedding model have directories of their own, and nothing is deeper.
            if deeper {
                read_directory(&path, false, fingerprints)?;
            }
        } else if is_read(&path) {
            record_fingerprint(&path, fingerprints)?;
        }
    }
    Ok(())
}

fn is_read(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
}

fn record_fingerprint(path: &Path, fingerprints: &mut Fingerprints) -> io::Result<()> {
    let about = match std::fs::metadata(path) {
        Ok(about) => about,
        // A link into the void, or gone since its directory was read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let fingerprint = FileFingerprint {
        bytes: about.len(),
        modified: (about.mtime(), about.mtime_nsec()),
        inode: about.ino(),
    };
    fingerprints.insert(path.to_owned(), fingerprint);
    Ok(())
}

/// How `now` differs from `then`, by the first file that does.
fn difference(then: &Fingerprints, now: &Fingerprints) -> FilesChange {
    let changed = then
        .iter()
        .find_map(|(path, fingerprint)| match now.get(path) {
            Some(now) if now == fingerprint => None,
            Some(_) => Some((path, "was changed")),
            None => Some((path, "is not there any more")),
        });
    let added = || {
        let mut added = now.keys().filter(|path| !then.contains_key(*path));
        added.next().map(|path| (path, "was added"))
    };
    let (path, what) = changed.or_else(added)?;
    let name = path.file_name().unwrap_or(path.as_os_str());
    Some(format!(
        "its files are not those that it was loaded from: {} {what}",
        name.to_string_lossy()
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn changes(path: &Path, change: impl FnOnce()) -> FilesChange {
        let then = read(path).expect("files");
        change();
        difference(&then, &read(path).expect("files"))
    }

    #[bounded::test]
    fn what_engines_read_is_watched_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        std::fs::create_dir_all(path.join("1_Pooling/deeper")).expect("directories");
        let write = |name: &str, text: &str| std::fs::write(path.join(name), text).expect("a file");
        write("config.json", "{}");
        assert_eq!(changes(path, || ()), None);
        for other in ["README.md", "events", "1_Pooling/deeper/config.json"] {
            assert_eq!(changes(path, || write(other, "x")), None, "{other}");
        }
        let reported =
            |name: &str, text: &str| changes(path, || write(name, text)).expect("a change");
        assert!(reported("config.json", "{ }").contains("config.json was changed"));
        assert!(reported("1_Pooling/config.json", "{}").contains("config.json was added"));
        assert!(reported("model.safetensors", "").contains("model.safetensors was added"));
        let remove = || std::fs::remove_file(path.join("config.json")).expect("a file");
        let gone = changes(path, remove).expect("a change");
        assert!(gone.contains("is not there any more"), "{gone}");
    }

    #[bounded::test]
    fn a_file_of_the_same_size_and_time_is_another() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("model.gguf");
        std::fs::write(&path, "weights").expect("a file");
        let replace = || {
            let time = std::fs::metadata(&path).and_then(|about| about.modified());
            let new = directory.path().join("new");
            std::fs::write(&new, "weightS").expect("a file");
            let file = std::fs::File::options().write(true).open(&new);
            let file = file.expect("a file");
            file.set_modified(time.expect("a time")).expect("a time");
            std::fs::rename(&new, &path).expect("renamed");
        };
        assert!(changes(&path, replace).is_some());
    }

    #[bounded::test]
    fn a_link_that_leads_elsewhere_is_a_change() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        for version in ["1", "2"] {
            std::fs::create_dir(path.join(version)).expect("a directory");
            std::fs::write(path.join(version).join("config.json"), "{}").expect("a file");
        }
        let link = path.join("current");
        symlink(path.join("1"), &link).expect("a link");
        let relink = || {
            std::fs::remove_file(&link).expect("a link");
            symlink(path.join("2"), &link).expect("a link");
        };
        assert!(changes(&link, relink).is_some());
        assert!(changes(&path.join("none"), || ()).is_none());
    }
}
