//! Lists of entries, in pages.
//!
//! Invariant: a page begins right after the position where the one before ended, so that entries which
//! come and go meanwhile neither repeat nor hide others. A page costs the same wherever it is.

use std::time::SystemTime;

use rusqlite::{Connection, Rows, ToSql, params_from_iter};

use super::{CatalogEntry, row, source_kind::SourceKind};
use crate::model::{ModelId, ModelKind, Suspension};

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Which entries.
    pub filter: ListFilter,
    /// In which order; entries that are equal in it are ordered by id.
    pub order: ListOrder,
    /// From the last to the first.
    pub descending: bool,
    /// Only what comes after this position.
    pub after: Option<ListPosition>,
    /// Most entries of the page. It has fewer where they are long.
    pub limit: usize,
}

/// Which entries to list: those that match all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// From such a source.
    pub source: Option<SourceKind>,
    /// Of this kind, as the spec or a load says it.
    pub kind: Option<ModelKind>,
    /// With these labels; `None` stands for any value.
    pub labels: Vec<(String, Option<String>)>,
}

/// What to order by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListOrder {
    /// The id.
    #[default]
    Id,
    /// The time of registration.
    Created,
    /// The time of the last change of the spec.
    Updated,
}

/// Where a page ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPosition {
    /// The last entry's time that the list is ordered by, in microseconds since 1970; 0 where it is ordered
    /// by id.
    pub key: i64,
    /// The last entry's id.
    pub id: ModelId,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct ListPage {
    /// The entries.
    pub entries: Vec<CatalogEntry>,
    /// Where the next page begins; `None`: this is the last.
    pub next: Option<ListPosition>,
    /// Entries on all pages together.
    pub total: u64,
}

/// What a list of everything needs of an entry.
#[derive(Clone, Debug)]
pub struct EntrySummary {
    /// The model.
    pub id: ModelId,
    /// As [`CatalogEntry::version`].
    pub version: u64,
    /// As [`CatalogEntry::suspended`].
    pub suspended: Option<Suspension>,
}

/// Bytes of a page as they are on disk, as far as one entry is not longer: specs have templates of hundreds of kilobytes.
const MAX_PAGE_BYTES: usize = 12 << 20;

/// The query.
struct Sql {
    conditions: Vec<String>,
    values: Vec<Box<dyn ToSql>>,
}

/// The entries of a page.
pub(super) fn page(connection: &Connection, query: &ListQuery) -> rusqlite::Result<ListPage> {
    let mut sql = Sql::of(&query.filter);
    let total = sql.total(connection)?;
    let compared = if query.descending { "<" } else { ">" };
    let direction = if query.descending { "DESC" } else { "ASC" };
    let column = match query.order {
        ListOrder::Id => None,
        ListOrder::Created => Some("created"),
        ListOrder::Updated => Some("updated"),
    };
    if let Some(after) = &query.after {
        match column {
            None => sql.and(
                &format!("id {compared} ?"),
                [Box::new(after.id.to_string())],
            ),
            Some(column) => sql.and(
                &format!("({column}, id) {compared} (?, ?)"),
                [
                    Box::new(after.key) as Box<dyn ToSql>,
                    Box::new(after.id.to_string()),
                ],
            ),
        }
    }
    let order = match column {
        None => format!("id {direction}"),
        Some(column) => format!("{column} {direction}, id {direction}"),
    };
    let text = format!(
        "SELECT {} FROM models{} ORDER BY {order} LIMIT {}",
        row::COLUMNS,
        sql.condition(),
        query.limit.saturating_add(1),
    );
    let mut statement = connection.prepare_cached(&text)?;
    let rows = statement.query(params_from_iter(&sql.values))?;
    let (entries, more) = first(rows, query.limit)?;
    let last = entries.last().filter(|_| more);
    let next = last.map(|entry| query.order.position(entry));
    Ok(ListPage {
        entries,
        next,
        total,
    })
}

/// The entries of the first `limit` rows, or of fewer where they are long, and whether there are more.
fn first(mut rows: Rows<'_>, limit: usize) -> rusqlite::Result<(Vec<CatalogEntry>, bool)> {
    let mut entries = Vec::new();
    let mut bytes = 0_usize;
    while let Some(row) = rows.next()? {
        bytes = bytes.saturating_add(row::bytes(row)?);
        let is_full = bytes > MAX_PAGE_BYTES && !entries.is_empty();
        if is_full || entries.len() == limit {
            return Ok((entries, true));
        }
        entries.push(row::read(row)?);
    }
    Ok((entries, false))
}

/// Entries that are to be loaded or were being loaded: required ones first, then by priority.
pub(super) fn to_reconcile(connection: &Connection) -> rusqlite::Result<Vec<CatalogEntry>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {} FROM models WHERE desired = 1 OR required = 1 OR preload = 1 OR attempt IS NOT NULL ORDER BY \
         required DESC, priority DESC, id",
        row::COLUMNS
    ))?;
    let rows = statement.query_map([], row::read)?;
    rows.collect()
}

/// Summaries of all entries, by id.
pub(super) fn summaries(connection: &Connection) -> rusqlite::Result<Vec<EntrySummary>> {
    let mut statement =
        connection.prepare_cached("SELECT id, version, suspended FROM models ORDER BY id")?;
    let summaries = statement.query_map([], |found| {
        Ok(EntrySummary {
            id: row::id(found, 0)?,
            version: found.get::<_, i64>(1)?.unsigned_abs(),
            suspended: row::json(found, 2)?,
        })
    })?;
    summaries.collect()
}

/// Ids of all models, or of the first `limit`, in order.
pub(super) fn ids(connection: &Connection, limit: Option<usize>) -> rusqlite::Result<Vec<ModelId>> {
    let limit = limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    let mut statement = connection.prepare_cached("SELECT id FROM models ORDER BY id LIMIT ?1")?;
    let ids = statement.query_map([limit], |found| row::id(found, 0))?;
    ids.collect()
}

impl ListOrder {
    /// Where `entry` stands in a list in this order.
    pub fn position(self, entry: &CatalogEntry) -> ListPosition {
        let time = match self {
            Self::Id => SystemTime::UNIX_EPOCH,
            Self::Created => entry.created,
            Self::Updated => entry.updated,
        };
        ListPosition {
            key: row::micros(time),
            id: entry.id.clone(),
        }
    }
}

impl Sql {
    fn of(filter: &ListFilter) -> Self {
        let mut sql = Self {
            conditions: Vec::new(),
            values: Vec::new(),
        };
        if let Some(source) = filter.source {
            sql.and("source = ?", [Box::new(source.name())]);
        }
        if let Some(kind) = filter.kind {
            sql.and("kind = ?", [Box::new(kind.name())]);
        }
        for (key, value) in &filter.labels {
            let key: Box<dyn ToSql> = Box::new(key.clone());
            match value {
                None => sql.and("id IN (SELECT model_id FROM labels WHERE key = ?)", [key]),
                Some(value) => sql.and(
                    "id IN (SELECT model_id FROM labels WHERE key = ? AND value = ?)",
                    [key, Box::new(value.clone())],
                ),
            }
        }
        sql
    }

    fn and<const N: usize>(&mut self, condition: &str, values: [Box<dyn ToSql>; N]) {
        self.conditions.push(condition.to_owned());
        self.values.extend(values);
    }

    fn condition(&self) -> String {
        if self.conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", self.conditions.join(" AND "))
        }
    }

    /// How many entries match.
    fn total(&self, connection: &Connection) -> rusqlite::Result<u64> {
        let text = if self.conditions.is_empty() {
            "SELECT n FROM counts WHERE name = 'models'".to_owned()
        } else {
            format!("SELECT count(*) FROM models{}", self.condition())
        };
        let mut statement = connection.prepare_cached(&text)?;
        let total: i64 = statement.query_row(params_from_iter(&self.values), |row| row.get(0))?;
        Ok(total.unsigned_abs())
    }
}
