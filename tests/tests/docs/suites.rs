//! The table of the suites in `tests/README.md` has each suite, and no other.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use hangar_tests::workspace::tests_package;

const TABLE: &str = include_str!("../../README.md");

fn tests() -> PathBuf {
    tests_package().join("tests")
}

/// Names in a directory, without the suffix of Rust's files.
fn names(directory: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_stem().context("a name")?;
        names.insert(name.to_string_lossy().into_owned());
    }
    Ok(names)
}

#[hangar_tests::test]
fn the_table_has_every_suite_and_no_other() -> Result<()> {
    let mut suites = BTreeSet::new();
    for program in names(&tests())? {
        let directory = tests().join(&program);
        if !directory.is_dir() {
            suites.insert(program);
            continue;
        }
        for suite in names(&directory)?.into_iter().filter(|it| it != "main") {
            suites.insert(format!("{program} {suite}"));
        }
    }
    let rows = TABLE.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: Vec<String> = rows
        .filter_map(|row| Some(row.split_once('`')?.0.to_owned()))
        .collect();
    let set: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(set, suites);
    assert_eq!(listed.len(), set.len(), "a suite is listed twice");
    Ok(())
}
