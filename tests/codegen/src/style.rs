//! What the house's style says and neither rustfmt nor clippy checks.

mod functions;

use anyhow::{Result, ensure};
use functions::functions;

use crate::sources::sources;

/// Where the hand-written sources are.
const FOLDERS: [&str; 3] = ["client", "server", "tests"];

/// A function has fewer lines of code; `clippy.toml` counts braces, too.
const LINES: usize = 50;

#[bounded::test]
fn no_comment_is_a_banner() -> Result<()> {
    let sources = sources(&FOLDERS)?;
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

#[bounded::test]
fn every_file_begins_with_what_it_is_for() -> Result<()> {
    for (name, text) in sources(&FOLDERS)? {
        ensure!(text.starts_with("//! "), "{name} begins with no `//!`");
    }
    Ok(())
}

/// Clippy sees none of those whose bodies a macro expands, as it does those of async tests.
#[bounded::test]
fn every_function_has_fewer_than_fifty_lines() -> Result<()> {
    let mut seen = 0;
    let mut long = Vec::new();
    for (file, text) in sources(&FOLDERS)? {
        for function in functions(&text) {
            seen += 1;
            if function.lines >= LINES {
                long.push(format!("{file}:{function}"));
            }
        }
    }
    assert!(seen > 7_000, "{seen}");
    ensure!(long.is_empty(), "longer functions:\n{}", long.join("\n"));
    Ok(())
}
