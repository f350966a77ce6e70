//! The demo model and its adapter, which are built in: written to directories so that the engine can map them.
//!
//! A directory is named for the digest of its contents. A file is written beside its place and then moved
//! there, so that a file in its place is whole; one that was changed since is written anew.

use std::{
    io::{ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::failure::Failure;

/// Name of the model.
pub(crate) const NAME: &str = "hangar-demo";

/// Bytes of the digest in the directory's name.
const NAME_BYTES: usize = 8;

/// Names and contents of the model's files.
const FILES: &[(&str, &[u8])] = &[
    ("config.json", include_bytes!("../demo/model/config.json")),
    (
        "generation_config.json",
        include_bytes!("../demo/model/generation_config.json"),
    ),
    (
        "tokenizer.json",
        include_bytes!("../demo/model/tokenizer.json"),
    ),
    (
        "tokenizer_config.json",
        include_bytes!("../demo/model/tokenizer_config.json"),
    ),
    (
        "model.safetensors",
        include_bytes!("../demo/model/model.safetensors"),
    ),
];

/// Names and contents of the files of the demo model's adapter.
const ADAPTER_FILES: &[(&str, &[u8])] = &[
    (
        "adapter_config.json",
        include_bytes!("../demo/adapter/adapter_config.json"),
    ),
    (
        "adapter_model.safetensors",
        include_bytes!("../demo/adapter/adapter_model.safetensors"),
    ),
];

/// Writes the demo model below `cache`, unless it is there, and gives its directory.
pub(crate) fn unpack(cache: &Path) -> Result<PathBuf, Failure> {
    unpack_named(cache, FILES, "model")
}

/// Writes the demo model's adapter below `cache`, unless it is there, and gives its directory.
pub(crate) fn unpack_adapter(cache: &Path) -> Result<PathBuf, Failure> {
    unpack_named(cache, ADAPTER_FILES, "adapter")
}

fn unpack_named(cache: &Path, files: &[(&str, &[u8])], what: &str) -> Result<PathBuf, Failure> {
    unpack_files(cache, files).map_err(|e| {
        let message = format!(
            "The demo {what} cannot be written to {}: {e}.",
            cache.display()
        );
        match e.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                Failure::storage(format!("{message} Free some space."))
            }
            _ => Failure::unusable(format!("{message} Check the server's data directory.")),
        }
    })
}

fn unpack_files(cache: &Path, files: &[(&str, &[u8])]) -> std::io::Result<PathBuf> {
    let mut digest = Sha256::new();
    for (name, contents) in files {
        digest.update((name.len() as u64).to_le_bytes());
        digest.update(name);
        digest.update((contents.len() as u64).to_le_bytes());
        digest.update(contents);
    }
    let name: String = digest.finalize()[..NAME_BYTES]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let directory = cache.join(format!("demo-{name}"));
    std::fs::create_dir_all(&directory)?;
    for (name, contents) in files {
        place(&directory.join(name), contents)?;
    }
    Ok(directory)
}

/// Writes the file, unless it holds exactly these contents.
pub(crate) fn place(path: &Path, contents: &[u8]) -> std::io::Result<()> {
    if holds(path, contents)? {
        return Ok(());
    }
    write(path, contents)
}

/// Whether the file has exactly these contents.
fn holds(path: &Path, contents: &[u8]) -> std::io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(about) if !about.is_file() || about.len() != contents.len() as u64 => return Ok(false),
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    }
    let mut file = std::fs::File::open(path)?;
    let mut part = vec![0; 1 << 16];
    let mut rest = contents;
    while !rest.is_empty() {
        let read = file.read(&mut part)?;
        if read == 0 || !rest.starts_with(&part[..read]) {
            return Ok(false);
        }
        rest = &rest[read..];
    }
    Ok(true)
}

/// Writes a file beside its place and moves it there. Workers that do so at once do not meet.
fn write(path: &Path, contents: &[u8]) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    let written = std::fs::File::create(&beside).and_then(|mut file| {
        file.write_all(contents)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    });
    if written.is_err() {
        // The error that counts is the one above.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &[(&str, &[u8])] = &[("a", b"one"), ("b", b"two")];

    #[bounded::test]
    fn files_are_written_once_and_repaired() {
        let cache = tempfile::tempdir().expect("a directory");
        let directory = unpack_files(cache.path(), FILES).expect("unpacked");
        let read = |name: &str| std::fs::read(directory.join(name)).expect("a file");
        assert_eq!((read("a"), read("b")), (b"one".to_vec(), b"two".to_vec()));
        let before = std::fs::metadata(directory.join("a")).expect("a file");

        std::fs::write(directory.join("b"), "twx").expect("a change");
        assert_eq!(unpack_files(cache.path(), FILES).expect("again"), directory);
        assert_eq!(read("b"), b"two");
        let after = std::fs::metadata(directory.join("a")).expect("a file");
        assert_eq!(before.modified().ok(), after.modified().ok());
        assert_eq!(
            std::fs::read_dir(&directory).expect("a directory").count(),
            2
        );
    }

    #[bounded::test]
    fn other_contents_are_unpacked_into_another_directory() {
        let cache = tempfile::tempdir().expect("a directory");
        let one = unpack_files(cache.path(), FILES).expect("unpacked");
        let two = unpack_files(cache.path(), &FILES[..1]).expect("unpacked");
        assert_ne!(one, two);
    }
}
