//! What the house's style says and neither rustfmt nor clippy checks.

use std::{fs, path::PathBuf};

use anyhow::{Result, ensure};

use crate::{OUTPUTS, workspace};

/// Where the hand-written sources are.
const ROOMS: [&str; 3] = ["client", "server", "tests"];

/// The hand-written sources of the workspace, by their paths from its root.
fn sources() -> Result<Vec<(String, String)>> {
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> = ROOMS.iter().map(|room| workspace().join(room)).collect();
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

#[test]
fn no_comment_is_a_banner() -> Result<()> {
    let sources = sources()?;
    assert!(sources.len() > 500, "{}", sources.len());
    for (name, text) in sources {
        let banner = text.lines().find(|line| {
            let comment = line.trim_start().strip_prefix("//").unwrap_or_default();
            let drawn = comment.trim().chars().take_while(|c| "=-*#~".contains(*c));
            drawn.count() >= 3
        });
        ensure!(banner.is_none(), "{name}: {banner:?}");
    }
    Ok(())
}

#[test]
fn every_file_begins_with_what_it_is_for() -> Result<()> {
    for (name, text) in sources()? {
        ensure!(text.starts_with("//! "), "{name} begins with no `//!`");
    }
    Ok(())
}
