//! What other servers have left in the directories, or still hold.

use std::{
    fs::{File, OpenOptions},
    path::Path,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::start_error::StartError;

/// Keeps a second server out of the data directory for as long as the file is open.
pub(super) fn lock(data_dir: &Path) -> Result<File, StartError> {
    let path = data_dir.join("lock");
    let open = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = open.map_err(|cause| StartError::System {
        what: "cannot open the lock of the data directory",
        cause,
    })?;
    let what = "cannot lock the data directory";
    exclusively(file, data_dir, "--data-dir", what)
}

/// Keeps a second server, which may have other data, out of the runtime directory for as long as the file is open.
pub(super) fn lock_sockets(runtime_dir: &Path) -> Result<File, StartError> {
    let open = File::open(runtime_dir);
    let directory = open.map_err(|cause| StartError::System {
        what: "cannot open the runtime directory",
        cause,
    })?;
    let what = "cannot lock the runtime directory";
    exclusively(directory, runtime_dir, "--runtime-dir", what)
}

fn exclusively(
    file: File,
    directory: &Path,
    flag: &'static str,
    what: &'static str,
) -> Result<File, StartError> {
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(StartError::Locked {
            directory: directory.display().to_string(),
            flag,
        }),
        Err(error) => Err(StartError::System {
            what,
            cause: error.into(),
        }),
    }
}

/// Removes the sockets that a server which was killed has left behind.
pub(super) fn remove_sockets(runtime_dir: &Path) -> Result<(), StartError> {
    let system = |cause| StartError::System {
        what: "cannot clean the runtime directory",
        cause,
    };
    for entry in std::fs::read_dir(runtime_dir).map_err(system)? {
        let path = entry.map_err(system)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "sock")
        {
            std::fs::remove_file(&path).map_err(system)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn a_directory_is_in_use_only_where_another_holds_its_lock() {
        let directory = tempfile::tempdir().unwrap();
        let held = lock(directory.path()).unwrap();
        let second = lock(directory.path());
        assert!(matches!(second, Err(StartError::Locked { .. })));
        drop(held);
        lock(directory.path()).unwrap();
        // What is open as a path only cannot be locked.
        let flags = rustix::fs::OFlags::PATH;
        let path = rustix::fs::open(directory.path(), flags, rustix::fs::Mode::empty()).unwrap();
        let refused = exclusively(path.into(), directory.path(), "--data-dir", "locking");
        assert!(
            matches!(refused, Err(StartError::System { .. })),
            "{refused:?}"
        );
    }
}
