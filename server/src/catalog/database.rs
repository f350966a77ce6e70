//! The file: opened, checked and brought up to date.
//!
//! Invariant: a file that is refused was not written to. So it is looked at through a connection that
//! cannot write before another one may.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, MAIN_DB, OpenFlags, config::DbConfig};
use rusqlite_migration::{M, Migrations};

use super::error::OpenCatalogError;

/// For everybody who looks at the file: it is a catalog of Hangar's.
const APPLICATION: i64 = 0x486e_6772;

/// One step for each version; only ever added to.
const MIGRATIONS: &[M<'_>] = &[
    M::up(include_str!("schema/0001.sql")),
    M::up(include_str!("schema/0002.sql")),
    M::up(include_str!("schema/0003.sql")),
];

/// How long a connection waits for another.
const BUSY: Duration = Duration::from_secs(5);

/// The smallest page of a database in bytes.
const LEAST_PAGE: u64 = 512;

/// Statements that a connection keeps prepared.
const STATEMENTS: usize = 64;

/// The last version that this server knows.
pub(super) fn known_version() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// The connection that writes, of a file that is up to date. A new one has its name only once it is whole, so that one
/// which is empty was emptied.
pub(super) fn open(path: &Path) -> Result<Connection, OpenCatalogError> {
    let system = |error: io::Error| OpenCatalogError::system(path, &error);
    if !path.try_exists().map_err(system)? {
        make(path)?;
    }
    check(path)?;
    open_to_write(path)
}

/// Makes an empty catalog.
fn make(path: &Path) -> Result<(), OpenCatalogError> {
    let of = |error: rusqlite::Error| OpenCatalogError::of(path, &error);
    let system = |error: io::Error| OpenCatalogError::system(path, &error);
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    remove_with_journals(&draft).map_err(system)?;
    let connection = open_to_write(&draft)?;
    let left: i64 = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(of)?;
    connection.close().map_err(|(_, error)| of(error))?;
    if left != 0 || has_journal(&draft) {
        return Err(system(io::Error::other(
            "its journal cannot be written into it",
        )));
    }
    // Of a file that somebody has removed: they are no part of the new one.
    remove_with_journals(path).map_err(system)?;
    fs::rename(&draft, path).map_err(system)?;
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = fs::File::open(directory.unwrap_or(Path::new(".")));
    directory.and_then(|it| it.sync_all()).map_err(system)
}

/// Removes what there is of a database.
fn remove_with_journals(path: &Path) -> io::Result<()> {
    for journal in ["", "-wal", "-shm", "-journal"] {
        let mut file = path.as_os_str().to_owned();
        file.push(journal);
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn open_to_write(path: &Path) -> Result<Connection, OpenCatalogError> {
    let of = |error: rusqlite::Error| OpenCatalogError::of(path, &error);
    let mut connection = Connection::open(path).map_err(of)?;
    if connection.is_readonly(MAIN_DB).map_err(of)? {
        return Err(OpenCatalogError::ReadOnly {
            path: path.to_owned(),
            cause: "it can only be read".to_owned(),
        });
    }
    configure(&connection).map_err(of)?;
    connection
        .pragma_update(None, "journal_mode", "wal")
        .and_then(|()| connection.pragma_update(None, "synchronous", "full"))
        .and_then(|()| connection.pragma_update(None, "journal_size_limit", 16 << 20))
        .map_err(of)?;
    Migrations::from_slice(MIGRATIONS)
        .to_latest(&mut connection)
        .map_err(|error| match error {
            rusqlite_migration::Error::RusqliteError { err, .. } => of(err),
            error => OpenCatalogError::Corrupt {
                path: path.to_owned(),
                cause: error.to_string(),
            },
        })?;
    Ok(connection)
}

/// A connection that only reads, of a file that is open for writing.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, OpenCatalogError> {
    let of = |error: rusqlite::Error| OpenCatalogError::of(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(of)?;
    configure(&connection).map_err(of)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "foreign_keys", true)
}

/// Refuses a file that is damaged, foreign or newer than this server.
fn check(path: &Path) -> Result<(), OpenCatalogError> {
    let of = |error: rusqlite::Error| OpenCatalogError::of(path, &error);
    let connection = open_untouched(path).map_err(of)?;
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get(0));
    let application: i64 = pragma("application_id").map_err(of)?;
    let found: i64 = pragma("user_version").map_err(of)?;
    let corrupt = |cause: String| OpenCatalogError::Corrupt {
        path: path.to_owned(),
        cause,
    };
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(of)?;
    let length = fs::metadata(path).map_err(|error| OpenCatalogError::system(path, &error))?;
    let length = length.len();
    let is_whole = length >= LEAST_PAGE || has_journal(path);
    // By a server of an earlier version that was killed.
    let begun_only = is_whole && application == 0 && found == 0 && tables == 0;
    if application != APPLICATION && !begun_only {
        let cause = match length {
            0 => "it is empty, which no catalog is",
            _ => "it is not a catalog of hangar",
        };
        return Err(corrupt(cause.to_owned()));
    }
    if found > known_version() {
        return Err(OpenCatalogError::Newer {
            path: path.to_owned(),
            found,
            known: known_version(),
        });
    }
    let integrity: String = connection
        .pragma_query_value(None, "quick_check", |row| row.get(0))
        .map_err(of)?;
    if integrity == "ok" {
        Ok(())
    } else {
        Err(corrupt(integrity))
    }
}

/// A connection that changes nothing. Where there is no journal it does not even lock the file.
fn open_untouched(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if has_journal(path) {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        return Ok(connection);
    }
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => {
                uri.push(char::from(*byte));
            }
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
}

/// Whether a server that was killed has left writes beside the file.
fn has_journal(path: &Path) -> bool {
    let mut journal = path.as_os_str().to_owned();
    journal.push("-wal");
    fs::metadata(journal).is_ok_and(|metadata| metadata.len() > 0)
}
