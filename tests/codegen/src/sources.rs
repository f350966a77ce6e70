//! Hand-written sources, as unit tests read them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::{OUTPUTS, workspace};

/// The hand-written sources in `folders`, by their paths; both from the workspace's root.
pub(crate) fn sources(folders: &[&str]) -> Result<Vec<(String, String)>> {
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(|name| workspace().join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.strip_prefix(workspace())?.display().to_string();
            if path.is_dir() {
                if !OUTPUTS.contains(&&*name) && !name.ends_with("node_modules") {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                sources.push((name, fs::read_to_string(&path)?));
            }
        }
    }
    Ok(sources)
}

/// As [`sources`], without tests.
pub(crate) fn sources_without_tests(folder: &str) -> Result<Vec<(String, String)>> {
    let mut sources = sources(&[folder])?;
    sources.retain(|(name, _)| {
        !Path::new(name)
            .iter()
            .any(|part| part == "tests" || part == "tests.rs")
    });
    for (_, text) in &mut sources {
        if let Some(tests) = text.find("#[cfg(test)]\nmod tests {") {
            text.truncate(tests);
        }
    }
    Ok(sources)
}
