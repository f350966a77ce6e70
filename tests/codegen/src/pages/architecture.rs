//! The tables of locks and of tasks in ARCHITECTURE.md are those of the sources: each names what the other has.

use std::{collections::BTreeSet, fmt::Debug};

use super::*;
use crate::sources::{sources, sources_without_tests};

/// Where there may be locks.
const FOLDERS: [&str; 4] = [
    "server/src",
    "server/worker/src",
    "server/worker-protocol/src",
    "client/src",
];

/// Where panics of tasks are ordered.
const SUITES: &str = "tests/tests/control_plane";

/// Types that hold what several tasks change: locks, and what is swapped as a whole.
const LOCKS: [&str; 5] = [
    "Mutex<",
    "RwLock<",
    "KeyedLocks<",
    "ArcSwap<",
    "ArcSwapOption<",
];

/// What makes a lock for a variable, whose type is not written.
const MADE: [&str; 3] = ["Mutex::new(", "Mutex::default(", "RwLock::new("];

/// What makes a semaphore that is a lock.
const ONE_PERMIT: &str = "Semaphore::new(1)";

/// Calls that start tasks and threads, up to their names, and what is said of their kind.
const STARTERS: [(&str, &str); 7] = [
    ("critical(", "critical"),
    ("background(", "background"),
    ("of_model(", "background"),
    ("owned(", "owned"),
    ("thread(", "critical"),
    ("isolated(", "isolated"),
    ("readers.read(", "owned"),
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

/// The page lists what the sources have, and nothing else.
fn assert_same<T: Ord + Debug>(listed: &BTreeSet<T>, found: &BTreeSet<T>) {
    let new: Vec<_> = found.difference(listed).collect();
    let gone: Vec<_> = listed.difference(found).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "ARCHITECTURE.md lacks {new:?}, and the sources lack {gone:?}"
    );
}

/// The name that a line gives to a lock, if it declares one: of the field or the variable, or of the type around it.
fn lock(line: &str) -> Option<&str> {
    let line = line.trim();
    let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
    let begins = |words: &[&str]| words.iter().any(|word| line.starts_with(word));
    let is_lock = match begins(&["let "]) {
        true => has(&LOCKS) || has(&MADE),
        false => has(&LOCKS) && !has(&["&Mutex<", "fn "]),
    };
    let is_declared = (is_lock || line.contains(ONE_PERMIT)) && !begins(&["//", "impl"]);
    let before = [
        "pub(in crate::rpc) ",
        "pub(super) ",
        "pub(crate) ",
        "pub ",
        "struct ",
        "type ",
        "static ",
        "let ",
        "mut ",
    ];
    let declared = before
        .iter()
        .fold(line, |line, word| line.strip_prefix(word).unwrap_or(line));
    let mut words = declared.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.next().filter(|_| is_declared)
}

#[bounded::test]
fn a_lock_has_the_name_of_its_field_variable_or_type() {
    for (line, name) in [
        ("    models: Mutex<BTreeMap<ModelId, Model>>,", "models"),
        ("pub(super) struct Names(RwLock<Maps>);", "Names"),
        ("static DECODING: Mutex<()> = Mutex::new(());", "DECODING"),
        ("let inbox = Arc::new(Mutex::new(inbox));", "inbox"),
        ("let mut one = Semaphore::new(1);", "one"),
        ("            writer: Semaphore::new(1),", "writer"),
    ] {
        assert_eq!(lock(line), Some(name));
    }
    for line in [
        "fn lock(names: &Mutex<Names>) -> MutexGuard<'_, Names> {",
        "            names: Mutex::default(),",
        "            places: Semaphore::new(places),",
        "let names = self.names.lock();",
        "// Mutex<Names>",
    ] {
        assert_eq!(lock(line), None);
    }
}

#[bounded::test]
fn the_tables_of_locks_have_those_of_the_sources_and_no_others() -> Result<()> {
    let mut locks = BTreeSet::new();
    for folder in FOLDERS {
        for (path, text) in sources_without_tests(folder)? {
            let names = text.lines().filter_map(lock);
            locks.extend(names.map(|name| format!("`{name}` in `{path}`")));
        }
    }
    let mut listed = BTreeSet::new();
    for (name, rest) in rows("\n## State and locks\n")? {
        let file = rest.split('`').nth(1).context("the file of a lock")?;
        listed.insert(format!("`{name}` in `{file}`"));
    }
    assert!(locks.len() > 30, "{locks:?}");
    assert_same(&listed, &locks);
    Ok(())
}

/// The names of the tasks and threads that a source starts, up to what is put in when they are, and their kinds.
fn tasks(text: &str) -> impl Iterator<Item = (String, &'static str)> {
    let calls = STARTERS.iter().flat_map(|(starter, kind)| {
        let calls = text.split(starter).skip(1);
        calls.map(|rest| (rest.trim_start(), *kind))
    });
    calls.filter_map(|(rest, kind)| {
        let quoted = rest.strip_prefix("format!(").unwrap_or(rest);
        let name = quoted.strip_prefix('"')?.split(['"', '{']).next()?;
        Some((name.to_owned(), kind))
    })
}

/// The tasks and threads of the server.
fn all_tasks() -> Result<BTreeSet<(String, &'static str)>> {
    let mut started = BTreeSet::new();
    for (_, text) in sources_without_tests("server/src")? {
        started.extend(tasks(&text));
    }
    anyhow::ensure!(started.len() > 15, "{started:?}");
    Ok(started)
}

#[bounded::test]
fn the_table_of_tasks_has_the_tasks_of_the_server_and_no_others() -> Result<()> {
    let mut listed = BTreeSet::new();
    for (name, rest) in rows("\n## Tasks, and what happens when one dies\n")? {
        let panics = rest.split(" | ").nth(1).unwrap_or_default();
        anyhow::ensure!(panics.contains(char::is_alphabetic), "{name}: {rest}");
        let mut kinds = STARTERS.iter().map(|(_, kind)| *kind);
        let kind = kinds.find(|kind| rest.starts_with(kind));
        // Those of several threads are numbered.
        let name = name.trim_end_matches('N').to_owned();
        listed.insert((name, kind.with_context(|| format!("kind: {rest}"))?));
    }
    assert_same(&listed, &all_tasks()?);
    Ok(())
}

/// What names a task or a thread of the worker.
const WORKER_STARTERS: [&str; 2] = [".name(\"", ".critical(\""];

#[bounded::test]
fn the_table_of_a_workers_tasks_has_those_of_its_sources_and_no_others() -> Result<()> {
    let mut started = BTreeSet::new();
    for (_, text) in sources_without_tests("server/worker/src")? {
        for starter in WORKER_STARTERS {
            let names = text.split(starter).skip(1);
            started.extend(names.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
    anyhow::ensure!(started.len() > 5, "{started:?}");
    let rows = rows("\n## Tasks of a worker, and what happens when one dies\n")?;
    let listed = rows.into_iter().map(|(name, _)| name).collect();
    assert_same(&listed, &started);
    Ok(())
}

#[bounded::test]
fn a_test_has_each_task_panic() -> Result<()> {
    let mut suites = sources(&[SUITES])?;
    suites.retain(|(_, text)| text.contains("Failpoints"));
    for (task, _) in all_tasks()? {
        // Of one model, or one of several threads.
        let is_ordered = |text: &str| text.starts_with(['.', '0']) || text.is_empty();
        let mut words = suites.iter().flat_map(|(_, text)| text.split('"'));
        let ordered = words.any(|word| word.strip_prefix(&*task).is_some_and(is_ordered));
        anyhow::ensure!(ordered, "no test in {SUITES} orders a panic of {task}");
    }
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

#[bounded::test]
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
