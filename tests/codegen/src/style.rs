//! What the house's style says and neither rustfmt nor clippy checks.

use anyhow::{Result, ensure};

use crate::sources::sources;

/// Where the hand-written sources are.
const ROOMS: [&str; 3] = ["client", "server", "tests"];

#[bounded::test]
fn no_comment_is_a_banner() -> Result<()> {
    let sources = sources(&ROOMS)?;
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
    for (name, text) in sources(&ROOMS)? {
        ensure!(text.starts_with("//! "), "{name} begins with no `//!`");
    }
    Ok(())
}
