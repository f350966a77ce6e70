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

/// The code of sources, without comments; what goes on in a further line with a dot is one line.
pub(crate) fn code(sources: &[(String, String)]) -> String {
    let mut code = String::new();
    for (_, text) in sources {
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.starts_with("//")) {
            if !line.starts_with('.') {
                code.push('\n');
            }
            code.push_str(line);
        }
    }
    code
}

/// Whether the code names this, and not only something longer.
pub(crate) fn names(code: &str, name: &str) -> bool {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| {
        let goes_on = code[at + name.len()..].starts_with(is_of_name);
        !goes_on && !code[..at].ends_with(is_of_name)
    })
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
