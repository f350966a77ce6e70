//! The pages of the workspace, and their parts that are made from what the code says.
//!
//! Such a part stands between `<!-- begin NAME -->` and `<!-- end NAME -->`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::workspace;

/// The pages below a directory, by name, with their texts.
///
/// # Errors
///
/// When they cannot be read.
pub fn all(directory: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let built = name.starts_with('.') || ["target", "node_modules"].contains(&&*name);
        if entry.file_type()?.is_dir() && !built {
            pages.extend(all(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(&path)?;
            pages.push((path, text));
        }
    }
    pages.sort();
    Ok(pages)
}

/// Holds a part of a page against its text, and with `HANGAR_WRITE_PAGES` set writes it first.
///
/// `page` is a path from the workspace's root.
///
/// # Errors
///
/// When the page has no such part, or another text there.
pub fn check(page: &str, part: &str, text: &str) -> Result<()> {
    let path = workspace().join(page);
    let found = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let made = with_part(&found, part, text).with_context(|| format!("{page} has no {part}"))?;
    if found == made {
        return Ok(());
    }
    anyhow::ensure!(
        std::env::var_os("HANGAR_WRITE_PAGES").is_some(),
        "{page} is not what the code says: write it with HANGAR_WRITE_PAGES=1\n{text}"
    );
    Ok(fs::write(&path, made)?)
}

/// The page with this text in that part; nothing where it has none.
fn with_part(page: &str, part: &str, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(&format!("<!-- begin {part} -->\n"))?;
    let end = format!("<!-- end {part} -->\n");
    let (_, after) = rest.split_once(&end)?;
    let text = text.trim();
    Some(format!(
        "{before}<!-- begin {part} -->\n\n{text}\n\n{end}{after}"
    ))
}

#[cfg(test)]
mod architecture;
#[cfg(test)]
mod glossary;
#[cfg(test)]
mod tests;
