//! Opens a model's files: regular ones only, and only as much of them as is allowed.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{Cursor, ErrorKind, Read},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
};

use super::json;
use crate::failure::Failure;

/// Longest modules.json, or configuration of a module, in bytes.
pub(super) const MAX_MODULE_FILE: u64 = 1 << 20;

/// Beginning of the files that git-lfs leaves in the place of others.
const POINTER: &[u8] = b"version https://git-lfs";

/// Type and size of what is at `path`, which has to be a directory or a regular file.
pub(super) fn about(path: &Path) -> Result<Metadata, Failure> {
    let about = std::fs::metadata(path).map_err(|e| cannot_read(path, &e))?;
    check_type(path, &about)?;
    Ok(about)
}

/// Opens a regular file for reading.
///
/// What is no regular file is not opened, since opening a device or a pipe can do something or block; and
/// should it be exchanged in between, opening does not block and is noticed.
pub(super) fn open(path: &Path) -> Result<(File, u64), Failure> {
    let about = about(path)?;
    if about.is_dir() {
        return Err(Failure::unusable(format!(
            "{} is a directory where a file is needed.",
            name(path)
        )));
    }
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|e| cannot_read(path, &e))?;
    let about = file.metadata().map_err(|e| cannot_read(path, &e))?;
    check_type(path, &about)?;
    Ok((file, about.len()))
}

/// All of a regular file, if it is at most `limit` bytes.
pub(super) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let (file, length) = open(path)?;
    if length > limit {
        return Err(Failure::unusable(format!(
            "{} is {length} bytes long, more than the {limit} that such a file may have. Check that it \
             is the right file.",
            name(path)
        )));
    }
    let mut bytes = Vec::new();
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|e| cannot_read(path, &e))?;
    Ok(bytes)
}

/// A regular JSON file of at most `limit` bytes.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(
    path: &Path,
    limit: u64,
) -> Result<T, Failure> {
    let bytes = read(path, limit)?;
    refuse_pointer(path, &bytes)?;
    serde_json::from_slice(&json::strict(&bytes)).map_err(|e| {
        Failure::unusable(format!(
            "{} is malformed: {e}. Get an intact copy of the file.",
            name(path)
        ))
    })
}

/// The same of a file that need not be there.
pub(super) fn read_json_if_there<T: serde::de::DeserializeOwned>(
    path: &Path,
    limit: u64,
) -> Result<Option<T>, Failure> {
    match path.try_exists() {
        Ok(true) => read_json(path, limit).map(Some),
        Ok(false) => Ok(None),
        Err(e) => Err(cannot_read(path, &e)),
    }
}

/// A regular text file of at most `limit` bytes, without a byte order mark.
pub(super) fn read_text(path: &Path, limit: u64) -> Result<String, Failure> {
    let bytes = read(path, limit)?;
    let text = std::str::from_utf8(json::without_mark(&bytes)).map_err(|e| {
        Failure::unusable(format!(
            "{} is malformed: {e}. Get an intact copy of the file.",
            name(path)
        ))
    })?;
    Ok(text.to_owned())
}

/// Opens a regular file with weights, which has to be no pointer of git-lfs to one.
pub(super) fn open_weights(path: &Path) -> Result<(impl Read + use<>, u64), Failure> {
    let (mut file, length) = open(path)?;
    let mut beginning = Vec::new();
    (&mut file)
        .take(POINTER.len() as u64)
        .read_to_end(&mut beginning)
        .map_err(|e| cannot_read(path, &e))?;
    refuse_pointer(path, &beginning)?;
    Ok((Cursor::new(beginning).chain(file), length))
}

/// Refuses what git-lfs has left in a file's place, of which these are the first bytes.
fn refuse_pointer(path: &Path, beginning: &[u8]) -> Result<(), Failure> {
    if !beginning.starts_with(POINTER) {
        return Ok(());
    }
    Err(Failure::unusable(format!(
        "{} is a pointer of git-lfs to the file, and not the file itself. Fetch what it points to with `git lfs \
         pull`, or download the file by itself.",
        name(path)
    )))
}

/// Name of a file for messages, without its directory.
pub(super) fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

/// Why a file cannot be read.
pub(super) fn cannot_read(path: &Path, error: &std::io::Error) -> Failure {
    let name = name(path);
    Failure::unusable(match error.kind() {
        ErrorKind::NotFound => format!("{name} does not exist. Check the path of the model."),
        ErrorKind::PermissionDenied => {
            format!("{name} may not be read. Give the server's user the permission to read it.")
        }
        _ => format!("{name} cannot be read: {error}."),
    })
}

fn check_type(path: &Path, about: &Metadata) -> Result<(), Failure> {
    let kind = about.file_type();
    let found = if kind.is_file() || kind.is_dir() {
        return Ok(());
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_block_device() || kind.is_char_device() {
        "a device"
    } else {
        "neither a file nor a directory"
    };
    Err(Failure::unusable(format!(
        "{} is {found}. A model is a directory with safetensors or a GGUF file.",
        name(path)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn a_device_is_refused_without_being_opened() {
        let error = open(Path::new("/dev/null")).expect_err("a device");
        assert!(error.message.contains("a device"), "{error}");
    }

    #[bounded::test]
    fn a_pipe_is_refused_without_blocking() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.json");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.expect("mkfifo").success());
        let error = read(&path, 10).expect_err("a pipe");
        assert!(error.message.contains("a pipe"), "{error}");
    }

    #[bounded::test]
    fn a_file_that_is_too_long_is_not_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.json");
        std::fs::write(&path, "0123456789").expect("a file");
        assert!(read(&path, 9).is_err());
        assert_eq!(read(&path, 10).ok(), Some(b"0123456789".to_vec()));
    }
}
