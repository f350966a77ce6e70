//! An entry that a load can read.

use std::{io, path::PathBuf};

use super::{
    draft::EntryDraft,
    location::EntryLocation,
    manifest::{FORMAT, FileRecord, Manifest},
};

/// An entry that looks intact.
#[derive(Debug, Clone)]
pub(crate) struct PreparedEntry {
    location: EntryLocation,
    manifest: Manifest,
    verified: bool,
}

impl PreparedEntry {
    /// The entry at `location`, if there is one. Looks at sizes, times and some blocks of its files only;
    /// `verified` says that all of them were checked before.
    pub(super) fn open(location: &EntryLocation, verified: bool) -> Result<Option<Self>, String> {
        let directory = location.directory();
        let manifest = Manifest::read(&directory).map_err(|e| format!("its manifest: {e}"))?;
        let Some(manifest) = manifest else {
            return Ok(None);
        };
        if manifest.format != FORMAT || manifest.key != location.key.to_string() {
            return Err("it is another entry".into());
        }
        for file in &manifest.files {
            match file.seems_intact(&directory) {
                Ok(true) => {}
                Ok(false) => return Err(format!("{} was changed", file.name)),
                Err(error) => return Err(format!("{}: {error}", file.name)),
            }
        }
        let entry = Self {
            location: location.clone(),
            manifest,
            verified,
        };
        let whole = entry.quantized().next().is_some() && entry.residual().is_some();
        if whole || entry.is_useless() {
            Ok(Some(entry))
        } else {
            Err("it has no weights".into())
        }
    }

    /// Where it is.
    pub(crate) fn location(&self) -> &EntryLocation {
        &self.location
    }

    /// Its directory.
    pub(crate) fn directory(&self) -> PathBuf {
        self.location.directory()
    }

    /// Its files with quantized weights.
    pub(crate) fn quantized(&self) -> impl Iterator<Item = PathBuf> {
        self.files(".uqff")
    }

    /// Its file with what is not quantized.
    pub(crate) fn residual(&self) -> Option<PathBuf> {
        self.files(".safetensors").next()
    }

    /// Size of its files in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.manifest.files.iter().map(|file| file.size).sum()
    }

    /// Whether the engine could not load what it had written.
    pub(super) fn is_useless(&self) -> bool {
        self.manifest.useless
    }

    /// Checks every byte, unless that was done since the server started. Blocks.
    pub(crate) fn verify_once(&self) -> Result<(), String> {
        if self.verified { Ok(()) } else { self.verify() }
    }

    /// Checks every byte. Blocks.
    pub(crate) fn verify(&self) -> Result<(), String> {
        let directory = self.directory();
        let check = |file: &FileRecord| match file.is_intact(&directory) {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("{} is damaged", file.name)),
            Err(error) => Err(format!("{}: {error}", file.name)),
        };
        let mut results = Vec::new();
        std::thread::scope(|scope| {
            let checks: Vec<_> = self
                .manifest
                .files
                .iter()
                .map(|file| scope.spawn(move || check(file)))
                .collect();
            for check in checks {
                results.push(
                    check
                        .join()
                        .unwrap_or_else(|_| Err("a check failed".into())),
                );
            }
        });
        results.into_iter().collect()
    }

    /// Removes it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        std::fs::remove_dir_all(self.directory())
    }

    /// Leaves a note in its location that the engine cannot make use of it.
    pub(crate) fn mark_useless(&self) -> io::Result<()> {
        self.remove()?;
        EntryDraft::begin(&self.location, 0)?.finish_useless()
    }

    fn files(&self, end: &'static str) -> impl Iterator<Item = PathBuf> {
        let directory = self.directory();
        let files = self.manifest.files.iter();
        files
            .filter(move |file| file.name.ends_with(end))
            .map(move |file| directory.join(&file.name))
    }
}
