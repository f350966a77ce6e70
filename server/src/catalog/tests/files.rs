//! Files that are opened, and files that are refused and left as they are.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt};

use rusqlite::Connection;

use super::*;

/// All files of a directory but the index of a journal, which a reader builds anew.
fn contents(fixture: &TestCatalog) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(fixture.directory.path()).expect("a directory");
    files
        .map(|file| file.expect("a file"))
        .map(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            (name, fs::read(file.path()).expect("readable"))
        })
        .filter(|(name, _)| !name.ends_with("-shm"))
        .collect()
}

/// Why the catalog of `fixture` is refused, after which it has to be as it was.
fn refusal(fixture: &TestCatalog) -> OpenCatalogError {
    let before = contents(fixture);
    let refusal = Catalog::open(&fixture.path(), 10, &Supervisor::default()).expect_err("refused");
    assert_eq!(contents(fixture), before, "the files were changed");
    let text = refusal.to_string();
    assert!(
        text.contains(&fixture.path().display().to_string()),
        "{text}"
    );
    refusal
}

async fn closed() -> TestCatalog {
    let fixture = TestCatalog::new();
    fixture.create_with("m", &["a"]).await.expect("created");
    fixture.catalog.close().await;
    fixture
}

#[bounded::test]
async fn a_catalog_that_was_emptied_is_refused_untouched() {
    for length in [0, 1] {
        let fixture = closed().await;
        let file = fs::OpenOptions::new().write(true).open(fixture.path());
        file.and_then(|file| file.set_len(length)).expect("cut");
        let refusal = refusal(&fixture);
        assert!(
            matches!(refusal, OpenCatalogError::Corrupt { .. }),
            "{refusal:?}"
        );
        assert!(
            length > 0 || refusal.to_string().contains("empty"),
            "{refusal}"
        );
    }
}

#[bounded::test]
async fn a_catalog_whose_making_was_cut_short_is_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("catalog.db");
    let draft = directory.path().join("catalog.db.new");
    for left in ["", "-wal", "-shm"] {
        fs::write(format!("{}{left}", draft.display()), "left").expect("written");
    }
    let catalog = Catalog::open(&path, 10, &Supervisor::default()).expect("a new catalog");
    let fixture = TestCatalog { directory, catalog };
    fixture.create("m").await;
    let version: i64 = Connection::open(fixture.path())
        .and_then(|connection| {
            connection.pragma_query_value(None, "user_version", |row| row.get(0))
        })
        .expect("a version");
    assert_eq!(version, database::known_version());
    assert!(contents(&fixture).keys().all(|name| !name.contains("new")));
}

#[bounded::test]
async fn a_catalog_that_was_begun_only_is_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("catalog.db");
    let connection = Connection::open(&path).expect("a file");
    connection
        .pragma_update(None, "journal_mode", "wal")
        .expect("written");
    drop(connection);
    let catalog = Catalog::open(&path, 10, &Supervisor::default()).expect("a new catalog");
    catalog.create(new("m"), None).await.expect("created");
}

#[bounded::test]
async fn the_journal_of_a_removed_catalog_is_no_part_of_a_new_one() {
    let fixture = TestCatalog::new();
    fixture.create("m").await;
    let journal = fixture.directory.path().join("catalog.db-wal");
    let left = fs::read(&journal).expect("a journal");
    fixture.catalog.close().await;
    fs::remove_file(fixture.path()).expect("removed");
    fs::write(&journal, left).expect("written");
    let catalog = Catalog::open(&fixture.path(), 10, &Supervisor::default());
    let again = TestCatalog {
        catalog: catalog.expect("a new catalog"),
        ..fixture
    };
    assert!(again.entry("m").await.is_none());
    again.create("m").await;
}

#[bounded::test]
async fn a_catalog_is_the_same_when_opened_again() {
    let fixture = TestCatalog::new();
    let entry = fixture.create_with("m", &["a"]).await.expect("created");
    let fixture = fixture.reopened().await.reopened().await;
    let again = fixture.entry("a").await.expect("there");
    assert_eq!((again.uid, again.etag), (entry.uid, entry.etag));
}

#[bounded::test]
async fn a_newer_catalog_is_refused_untouched() {
    let fixture = closed().await;
    let newer = database::known_version() + 1;
    let connection = Connection::open(fixture.path()).expect("a file");
    connection
        .pragma_update(None, "user_version", newer)
        .expect("written");
    drop(connection);
    let refusal = refusal(&fixture);
    assert!(matches!(&refusal, OpenCatalogError::Newer { found, .. } if *found == newer));
    assert!(refusal.to_string().contains("newer"));
}

#[bounded::test]
async fn a_newer_catalog_is_known_by_its_journal_too() {
    let fixture = TestCatalog::new();
    fixture.create("m").await;
    let newer = database::known_version() + 1;
    let written = fixture.catalog.write(move |change| {
        change
            .connection()
            .pragma_update(None, "user_version", newer)
    });
    written.await.expect("written");
    let directory = tempfile::tempdir().expect("a directory");
    for file in ["catalog.db", "catalog.db-wal"] {
        let from = fixture.directory.path().join(file);
        fs::copy(from, directory.path().join(file)).expect("a copy");
    }
    let left = TestCatalog {
        directory,
        catalog: fixture.catalog.clone(),
    };
    assert!(matches!(refusal(&left), OpenCatalogError::Newer { .. }));
}

#[bounded::test]
async fn a_file_of_garbage_is_refused_untouched() {
    let fixture = closed().await;
    for garbage in [
        vec![b'x'; 10],
        vec![0; 8192],
        b"not a database at all, but a text that is somewhat longer than a header\n".repeat(100),
    ] {
        fs::write(fixture.path(), garbage).expect("written");
        assert!(matches!(
            refusal(&fixture),
            OpenCatalogError::Corrupt { .. }
        ));
    }
}

#[bounded::test]
async fn a_damaged_catalog_is_refused_untouched() {
    let fixture = closed().await;
    let whole = fs::read(fixture.path()).expect("readable");
    let mut damaged = whole.clone();
    // Beyond the first page, which holds the schema.
    damaged[4096..].iter_mut().for_each(|byte| *byte ^= 0x5a);
    fs::write(fixture.path(), damaged).expect("written");
    assert!(matches!(
        refusal(&fixture),
        OpenCatalogError::Corrupt { .. }
    ));
    fs::write(fixture.path(), &whole[..whole.len() / 2]).expect("written");
    assert!(matches!(
        refusal(&fixture),
        OpenCatalogError::Corrupt { .. }
    ));
}

#[bounded::test]
async fn another_programs_database_is_refused_untouched() {
    let fixture = closed().await;
    fs::remove_file(fixture.path()).expect("removed");
    let connection = Connection::open(fixture.path()).expect("a file");
    connection
        .execute_batch("CREATE TABLE contacts (name TEXT)")
        .expect("written");
    drop(connection);
    let refusal = refusal(&fixture);
    assert!(refusal.to_string().contains("not a catalog of hangar"));
}

#[bounded::test]
async fn a_catalog_that_cannot_be_written_is_refused_untouched() {
    let fixture = closed().await;
    let directory = fixture.directory.path();
    let set = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
    };
    for (file, directory_mode) in [(0o444, 0o755), (0o444, 0o555), (0o644, 0o555)] {
        set(&fixture.path(), file);
        set(directory, directory_mode);
        // Permissions do not bind the superuser, unless this thread gives that up.
        let refused = std::thread::scope(|scope| {
            let open = || {
                give_up_privileges();
                refusal(&fixture)
            };
            scope.spawn(open).join().expect("no panic")
        });
        set(directory, 0o755);
        assert!(
            matches!(refused, OpenCatalogError::ReadOnly { .. }),
            "{refused:?}"
        );
    }
}

fn give_up_privileges() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let mut sets = capabilities(None).expect("capabilities");
    sets.effective.remove(CapabilitySet::DAC_OVERRIDE);
    set_capabilities(None, sets).expect("less capabilities");
}

#[bounded::test]
async fn a_directory_in_its_place_is_refused() {
    let fixture = closed().await;
    fs::remove_file(fixture.path()).expect("removed");
    fs::create_dir(fixture.path()).expect("made");
    let refused = Catalog::open(&fixture.path(), 10, &Supervisor::default());
    assert!(refused.is_err_and(|error| error.to_string().contains("catalog.db")));
}
