//! Responses to calls that are safe to repeat, kept for a day.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use rusqlite::{Connection, OptionalExtension, params};

use super::{CatalogEntry, row};

/// Which call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// Who calls; empty where nobody says.
    pub principal: String,
    /// What is called.
    pub method: &'static str,
    /// The caller's id of the call.
    pub id: String,
}

/// A response that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResponse {
    /// Digest of the request.
    pub digest: [u8; 32],
    /// The response, encoded.
    pub response: Vec<u8>,
}

/// A response to be remembered with the change that it is about.
pub struct ResponseToStore {
    /// The call.
    pub key: RequestKey,
    /// Digest of the request.
    pub digest: [u8; 32],
    /// Makes the response, encoded, from the entry: as it is after the change, or was before it was removed.
    pub response: Box<MakeResponse>,
}

/// Makes a response, encoded, from an entry.
pub type MakeResponse = dyn FnOnce(&CatalogEntry) -> Vec<u8> + Send;

/// How long a response is remembered.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3600);

/// How many are.
pub const REMEMBERED: i64 = 10_000;

impl fmt::Debug for ResponseToStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseToStore")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Remembers what `request` makes of `entry`.
pub(super) fn remember(
    connection: &Connection,
    request: Option<ResponseToStore>,
    entry: &CatalogEntry,
) -> rusqlite::Result<()> {
    let Some(request) = request else {
        return Ok(());
    };
    let remembered = StoredResponse {
        digest: request.digest,
        response: (request.response)(entry),
    };
    write(connection, &request.key, &remembered)
}

/// Remembers a response, and deletes what is too old and the oldest of what is too much.
pub(super) fn write(
    connection: &Connection,
    key: &RequestKey,
    remembered: &StoredResponse,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO requests (method, principal, id, digest, answer, time) VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON \
             CONFLICT (method, principal, id) DO UPDATE SET digest = excluded.digest, answer = excluded.answer, time \
             = excluded.time",
        )?
        .execute(params![
            key.method,
            key.principal,
            key.id,
            remembered.digest,
            remembered.response,
            row::micros(SystemTime::now()),
        ])?;
    prune(connection)
}

/// Deletes what is too old, and the oldest of what is too much.
pub(super) fn prune(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM requests WHERE time < ?1")?
        .execute([oldest()])?;
    let n: i64 = connection
        .prepare_cached("SELECT n FROM counts WHERE name = 'requests'")?
        .query_row([], |row| row.get(0))?;
    if n > REMEMBERED {
        connection
            .prepare_cached(
                "DELETE FROM requests WHERE rowid IN (SELECT rowid FROM requests ORDER BY time LIMIT ?1)",
            )?
            .execute([n - REMEMBERED])?;
    }
    Ok(())
}

/// The answer that was given to a call.
pub(super) fn read(
    connection: &Connection,
    key: &RequestKey,
) -> rusqlite::Result<Option<StoredResponse>> {
    connection
        .prepare_cached(
            "SELECT digest, answer FROM requests WHERE method = ?1 AND principal = ?2 AND id = ?3 AND time >= ?4",
        )?
        .query_row(
            params![key.method, key.principal, key.id, oldest()],
            |row| {
                Ok(StoredResponse {
                    digest: row.get(0)?,
                    response: row.get(1)?,
                })
            },
        )
        .optional()
}

fn oldest() -> i64 {
    let since = SystemTime::now().checked_sub(REMEMBERED_FOR);
    row::micros(since.unwrap_or(SystemTime::UNIX_EPOCH))
}
