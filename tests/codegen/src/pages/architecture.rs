//! The tables of locks and of tasks in ARCHITECTURE.md are those of the server's sources: each names what the other has.

use std::collections::BTreeSet;

use super::*;
use crate::sources::sources_without_tests;

/// Types that hold what several tasks change: locks, and what is swapped as a whole.
const LOCKS: [&str; 4] = ["Mutex<", "RwLock<", "ArcSwap<", "ArcSwapOption<"];

/// Calls that start tasks and threads, up to their names.
const STARTERS: [&str; 6] = [
    "critical(",
    "background(",
    "of_model(",
    "owned(",
    "thread(",
    "readers.read(",
];

/// What stands on the page below `heading`, up to the next one.
fn section(heading: &str) -> Result<String> {
    let page = fs::read_to_string(workspace().join("ARCHITECTURE.md"))?;
    let (_, section) = page.split_once(heading).context("no such section")?;
    Ok(section.split("\n## ").next().unwrap_or_default().to_owned())
}

/// Rows of the table below the heading, by the names in their first column, with the rest of the row.
fn rows(heading: &str) -> Result<Vec<(String, String)>> {
    let section = section(heading)?;
    let mut rows = Vec::new();
    for row in section.lines().filter_map(|line| line.strip_prefix("| ")) {
        let (names, rest) = row.split_once(" | ").context("a row of several columns")?;
        let names = names.split('`').skip(1).step_by(2);
        rows.extend(names.map(|name| (name.to_owned(), rest.to_owned())));
    }
    Ok(rows)
}

/// The name that a line gives to a lock, if it declares one: of the field, or of the type around it.
fn lock(line: &str) -> Option<&str> {
    let line = line.trim();
    let is_declared = LOCKS.iter().any(|kind| line.contains(kind))
        && !["//", "let ", "impl", "static "]
            .iter()
            .any(|begin| line.starts_with(begin))
        && !line.contains("&Mutex<")
        && !line.contains("fn ");
    let declared = line
        .strip_prefix("pub(super) ")
        .or_else(|| line.strip_prefix("pub "))
        .unwrap_or(line);
    let declared = declared
        .strip_prefix("struct ")
        .or_else(|| declared.strip_prefix("type "))
        .unwrap_or(declared);
    let mut words = declared.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.next().filter(|_| is_declared)
}

#[test]
fn the_table_of_locks_has_the_locks_of_the_server_and_no_others() -> Result<()> {
    let mut locks = BTreeSet::new();
    for (path, text) in sources_without_tests("server/src")? {
        locks.extend(
            text.lines()
                .filter_map(lock)
                .map(|name| format!("`{name}` in `{path}`")),
        );
    }
    let mut listed = BTreeSet::new();
    for (name, rest) in rows("\n## State and locks\n")? {
        let file = rest.split('`').nth(1).context("the file of a lock")?;
        listed.insert(format!("`{name}` in `{file}`"));
    }
    assert!(locks.len() > 30, "{locks:?}");
    assert_eq!(listed, locks);
    Ok(())
}

/// The names of the tasks and threads that a source starts, up to what is put in when they are.
fn tasks(text: &str) -> impl Iterator<Item = String> {
    let calls = STARTERS
        .iter()
        .flat_map(|starter| text.split(starter).skip(1));
    calls.filter_map(|rest| {
        let rest = rest.trim_start();
        let quoted = rest.strip_prefix("format!(").unwrap_or(rest);
        let name = quoted.strip_prefix('"')?.split(['"', '{']).next()?;
        Some(name.to_owned())
    })
}

#[test]
fn the_table_of_tasks_has_the_tasks_of_the_server_and_no_others() -> Result<()> {
    let mut started = BTreeSet::new();
    for (_, text) in sources_without_tests("server/src")? {
        started.extend(tasks(&text));
    }
    let listed = rows("\n## Tasks, and what happens when one dies\n")?;
    // Those of several threads are numbered.
    let listed = listed
        .iter()
        .map(|(name, _)| name.trim_end_matches('N').to_owned());
    assert!(started.len() > 15, "{started:?}");
    assert_eq!(listed.collect::<BTreeSet<_>>(), started);
    Ok(())
}

/// Sections of the page, and the folders whose modules they place.
const ROOMS: [(&str, &[&str]); 3] = [
    (
        "\n## Rooms of the server\n",
        &["server/src", "server/src/lifecycle"],
    ),
    ("\n## Rooms of the worker\n", &["server/worker/src"]),
    ("\n## Rooms of the client\n", &["client/src"]),
];

#[test]
fn every_module_is_in_the_map_of_its_crate() -> Result<()> {
    for (heading, folders) in ROOMS {
        let section = section(heading)?;
        let words: BTreeSet<&str> = section
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .collect();
        for folder in folders {
            for entry in fs::read_dir(workspace().join(folder))? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if let Some(module) = name.strip_suffix(".rs").filter(|name| *name != "lib") {
                    anyhow::ensure!(words.contains(module), "{folder}/{name} is in no room");
                }
            }
        }
    }
    Ok(())
}
