//! The pictures of the server's modules in ARCHITECTURE.md: each module names only what stands below its level.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, ensure};

use super::graph::Crate;
use crate::workspace;

/// Columns of a picture that have names; behind them stands what the modules are for.
const NAMES: usize = 46;

/// The modules of a picture, with their levels from above; lines without a name part these.
fn levels(picture: &str) -> BTreeMap<String, usize> {
    let mut levels = BTreeMap::new();
    let mut level = 0;
    for line in picture.lines() {
        let names: String = line.chars().take(NAMES).collect();
        let words = names.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let mut names = words.filter(|word| !word.is_empty()).peekable();
        if names.peek().is_none() {
            level += 1;
        }
        levels.extend(names.map(|name| (name.to_owned(), level)));
    }
    levels
}

#[bounded::test]
fn what_is_named_stands_below_in_the_pictures() -> Result<()> {
    let page = fs::read_to_string(workspace().join("ARCHITECTURE.md"))?;
    let (_, section) = page
        .split_once("\n## Rooms of the server\n")
        .context("the section")?;
    let mut pictures = section.split("```\n").skip(1).step_by(2);
    let server = Crate::read(&workspace().join("server/src/lib.rs"))?;
    let mut wrong = Vec::new();
    for parent in [vec![], vec!["lifecycle".to_owned()]] {
        let levels = levels(pictures.next().context("a picture")?);
        let children = server.children(&parent);
        ensure!(
            levels.keys().eq(&children),
            "drawn are {:?}, and there are {children:?}",
            levels.keys()
        );
        let arrows = server.arrows_below(&parent);
        ensure!(arrows.len() > 50, "{arrows:?}");
        for (from, to, arrow) in arrows {
            if levels[&from] >= levels[&to] {
                wrong.push(format!("{from} does not stand above {to}: {arrow}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[bounded::test]
fn lines_without_a_name_part_the_levels_of_a_picture() {
    let first = format!("{:NAMES$}what these are", "  a   b_c");
    let found = levels(&format!("{first}\n  d\n    │\n  e\n"));
    let expected = [("a", 0), ("b_c", 0), ("d", 0), ("e", 1)];
    let expected = expected.map(|(name, level)| (name.to_owned(), level));
    assert_eq!(found, expected.into());
}
