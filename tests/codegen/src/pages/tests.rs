//! Parts of pages are replaced, prose is wrapped, links lead somewhere, and files that the maps of the house name are
//! there.

use super::*;

/// Pages that name files of the workspace, from its root.
const MAPS: &[&str] = &["CONTRIBUTING.md", "ARCHITECTURE.md"];

/// No file, although it looks like one.
const ENGINE: &str = "mistral.rs";

/// Columns that a line of prose has at most; tables and code are as wide as they are.
const WIDTH: usize = 120;

/// Ends of names of files.
const ENDS: &[&str] = &[".rs", ".proto", ".toml", ".md", ".py", ".sql", ".json"];

#[bounded::test]
fn a_part_is_replaced_and_the_rest_is_left() {
    let page = "# A\n<!-- begin x -->\nold\n<!-- end x -->\nB\n";
    let made = "# A\n<!-- begin x -->\n\nnew\n\n<!-- end x -->\nB\n";
    assert_eq!(with_part(page, "x", "\nnew\n").as_deref(), Some(made));
    assert_eq!(with_part(made, "x", "new").as_deref(), Some(made));
    assert_eq!(with_part(page, "y", "new"), None);
}

#[bounded::test]
fn links_lead_somewhere() -> Result<()> {
    let mut links = 0;
    for (page, text) in all(&workspace())? {
        let folder = page.parent().context("a folder")?;
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            anyhow::ensure!(folder.join(target).exists(), "{}: {link}", page.display());
            links += 1;
        }
    }
    assert!(links > 50, "{links}");
    Ok(())
}

#[bounded::test]
fn prose_is_wrapped() -> Result<()> {
    for (page, text) in all(&workspace())? {
        let mut is_code = false;
        for line in text.lines() {
            is_code ^= line.trim_start().starts_with("```");
            let is_prose = !is_code && !line.starts_with('|');
            let is_wide = line.chars().count() > WIDTH;
            anyhow::ensure!(!is_prose || !is_wide, "{}: {line}", page.display());
        }
    }
    Ok(())
}

#[bounded::test]
fn files_that_the_maps_name_are_there() -> Result<()> {
    let root = workspace();
    let mut files = 0;
    for map in MAPS {
        for word in code(&fs::read_to_string(root.join(map))?) {
            for path in expanded(word).iter().filter(|path| is_path(&root, path)) {
                anyhow::ensure!(root.join(path).exists(), "{map}: there is no {path}");
                files += 1;
            }
        }
    }
    assert!(files > 60, "{files}");
    Ok(())
}

/// What stands between backticks and in blocks, word by word.
fn code(page: &str) -> impl Iterator<Item = &str> {
    let pieces = page.split('`').enumerate();
    let code = pieces.filter(|(at, _)| at % 2 == 1).map(|(_, piece)| piece);
    code.flat_map(str::split_whitespace)
        .map(|word| word.trim_matches(|c| "(),;:".contains(c)))
}

/// `a/{b,c}` as `a/b` and `a/c`.
fn expanded(word: &str) -> Vec<String> {
    let Some((before, rest)) = word.split_once('{') else {
        return vec![word.to_owned()];
    };
    let Some((inner, after)) = rest.split_once('}') else {
        return vec![word.to_owned()];
    };
    let parts = inner.split(',');
    parts.map(|part| format!("{before}{part}{after}")).collect()
}

/// Whether a word is meant as a path: it begins in the workspace's root or ends as files do.
fn is_path(root: &Path, word: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let first = word.split('/').next().unwrap_or_default();
    let begins = word.contains('/') && !first.is_empty() && root.join(first).is_dir();
    let ends = ENDS
        .iter()
        .any(|end| word.ends_with(end) && word.len() > end.len());
    word.chars().all(is_plain) && (begins || ends) && word != ENGINE
}

#[bounded::test]
fn commands_of_cargo_are_there() -> Result<()> {
    let root = workspace();
    let aliases = fs::read_to_string(root.join(".cargo/config.toml"))?;
    let is_alias = |name: &str| {
        aliases
            .lines()
            .any(|line| line.starts_with(&format!("{name} = ")))
    };
    let mut commands = 0;
    for (page, text) in all(&root)? {
        let lines = text.lines().filter_map(|line| line.strip_prefix("cargo "));
        for name in lines.filter_map(|line| line.split(' ').next()) {
            let known = ["build", "fmt", "test"].contains(&name) || is_alias(name);
            anyhow::ensure!(known, "{}: cargo {name}", page.display());
            commands += 1;
        }
    }
    assert!(commands > 5, "{commands}");
    Ok(())
}
