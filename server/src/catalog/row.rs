//! Entries as rows, and back.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, OptionalExtension, Row, named_params, types::Type};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{CatalogEntry, ModelOrigin, source_kind::SourceKind};
use crate::model::{Etag, ModelId, ModelKind, Spec};

/// What [`read`] reads, of the table `models`.
pub(super) const COLUMNS: &str = "id, uid, spec, version, etag, origin, created, updated, desired, suspended, attempt, \
     learned, (SELECT group_concat(alias, ' ') FROM (SELECT alias FROM aliases WHERE model_id = models.id \
     ORDER BY alias))";

/// The entry of a row of [`COLUMNS`].
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<CatalogEntry> {
    let uid: String = row.get(1)?;
    let aliases: Option<String> = row.get(12)?;
    Ok(CatalogEntry {
        id: id(row, 0)?,
        uid: Uuid::parse_str(&uid).map_err(|error| foreign(1, error))?,
        spec: Arc::new(json(row, 2)?.ok_or_else(no_spec)?),
        version: row.get::<_, i64>(3)?.unsigned_abs(),
        etag: Etag(row.get(4)?),
        origin: row
            .get_ref(5)?
            .as_str()?
            .parse()
            .unwrap_or(ModelOrigin::Api),
        created: time(row.get(6)?),
        updated: time(row.get(7)?),
        desired: row.get(8)?,
        suspended: json(row, 9)?,
        attempt: json(row, 10)?,
        learned: json(row, 11)?.unwrap_or_default(),
        aliases: aliases
            .unwrap_or_default()
            .split_whitespace()
            .map(|alias| ModelId::parse(alias).map_err(|error| foreign(12, error)))
            .collect::<Result<_, _>>()?,
    })
}

/// How long the entry of a row of [`COLUMNS`] is, about, without reading it.
pub(super) fn bytes(row: &Row<'_>) -> rusqlite::Result<usize> {
    let mut bytes = 0;
    for column in [2, 11] {
        let text = row.get_ref(column)?.as_str_or_null()?;
        bytes += text.map_or(0, str::len);
    }
    Ok(bytes)
}

/// The entry that `name` stands for: an id or an alias.
pub(super) fn find(
    connection: &Connection,
    name: &ModelId,
) -> rusqlite::Result<Option<CatalogEntry>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM models WHERE id = coalesce((SELECT model_id FROM aliases WHERE alias = ?1), ?1)"
    );
    connection
        .prepare_cached(&sql)?
        .query_row([name.as_str()], read)
        .optional()
}

/// Writes the whole row of `entry` and its labels, without its aliases. The id may be there already.
pub(super) fn write(connection: &Connection, entry: &CatalogEntry) -> rusqlite::Result<()> {
    let spec = &entry.spec;
    connection
        .prepare_cached(
            "INSERT INTO models (id, uid, spec, version, etag, origin, created, updated, source, kind, required, \
             preload, priority, desired, suspended, attempt, learned) VALUES (:id, :uid, :spec, :version, :etag, \
             :origin, :created, :updated, :source, :kind, :required, :preload, :priority, :desired, :suspended, \
             :attempt, :learned) ON CONFLICT (id) DO UPDATE SET uid = excluded.uid, spec = excluded.spec, version = \
             excluded.version, etag = excluded.etag, origin = excluded.origin, created = excluded.created, updated = \
             excluded.updated, source = excluded.source, kind = excluded.kind, required = excluded.required, preload = \
             excluded.preload, priority = excluded.priority, desired = excluded.desired, suspended = \
             excluded.suspended, attempt = excluded.attempt, learned = excluded.learned",
        )?
        .execute(named_params! {
            ":id": entry.id.as_str(),
            ":uid": entry.uid.to_string(),
            ":spec": to_json(&**spec)?,
            ":version": i64::try_from(entry.version).unwrap_or(i64::MAX),
            ":etag": entry.etag.0,
            ":origin": entry.origin.name(),
            ":created": micros(entry.created),
            ":updated": micros(entry.updated),
            ":source": SourceKind::from(&spec.source).name(),
            ":kind": spec.kind.or(entry.learned.metadata.kind).map(ModelKind::name),
            ":required": spec.required,
            ":preload": spec.preload,
            ":priority": spec.priority,
            ":desired": entry.desired,
            ":suspended": entry.suspended.as_ref().map(to_json).transpose()?,
            ":attempt": entry.attempt.as_ref().map(to_json).transpose()?,
            ":learned": to_json(&entry.learned)?,
        })?;
    let id = entry.id.as_str();
    connection
        .prepare_cached("DELETE FROM labels WHERE model_id = ?1")?
        .execute([id])?;
    let mut insert = connection
        .prepare_cached("INSERT INTO labels (model_id, key, value) VALUES (?1, ?2, ?3)")?;
    for (key, value) in &spec.labels {
        insert.execute([id, key, value])?;
    }
    Ok(())
}

/// The id in a column.
pub(super) fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<ModelId> {
    ModelId::parse(row.get_ref(column)?.as_str()?).map_err(|error| foreign(column, error))
}

/// What the JSON in a column says; `None` where there is none.
pub(super) fn json<T: DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<T>> {
    let text: Option<&str> = row.get_ref(column)?.as_str_or_null()?;
    text.map(|text| serde_json::from_str(text).map_err(|error| foreign(column, error)))
        .transpose()
}

/// `value` as JSON.
pub(super) fn to_json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// A validator that no other spec, and no other model of the same id, ever has.
pub(super) fn etag(uid: &Uuid, spec: &Spec) -> rusqlite::Result<Etag> {
    let digest = Sha256::new()
        .chain_update(uid.as_bytes())
        .chain_update(to_json(spec)?)
        .finalize();
    let digits = digest.iter().take(16).map(|byte| format!("{byte:02x}"));
    Ok(Etag(digits.collect()))
}

/// The time as precisely as it is kept.
pub(super) fn now() -> SystemTime {
    time(micros(SystemTime::now()))
}

/// Microseconds since 1970.
pub(super) fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The time that is `micros` microseconds after 1970.
pub(super) fn time(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros.unsigned_abs())
}

fn no_spec() -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(2, "spec".to_owned(), Type::Null)
}

fn foreign(column: usize, error: impl Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
