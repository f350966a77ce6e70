//! What models did, in samples of one interval.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, params};

use super::{Catalog, StorageError, row};
use crate::model::ModelId;

/// What a model did in a stretch of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSample {
    /// The model.
    pub id: ModelId,
    /// When the stretch began.
    pub began: SystemTime,
    /// What it did, as whoever keeps it writes it.
    pub sample: String,
}

/// How long a sample is kept.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

impl Catalog {
    /// Keeps samples of what models did, for a day.
    ///
    /// # Errors
    ///
    /// When that cannot be written.
    pub async fn append_samples(&self, samples: Vec<KeptSample>) -> Result<(), StorageError> {
        self.write(move |change| append(change.connection(), &samples))
            .await
    }

    /// Samples of stretches that began at `since` or later, oldest first.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub async fn samples(&self, since: SystemTime) -> Result<Vec<KeptSample>, StorageError> {
        self.read(move |connection| read(connection, since)).await
    }
}

/// Keeps samples, and forgets those that are too old. A model that is gone has none.
fn append(connection: &Connection, samples: &[KeptSample]) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT OR REPLACE INTO samples (model_id, began, sample) SELECT id, ?2, ?3 FROM models WHERE id = ?1",
    )?;
    for kept in samples {
        let began = row::micros(kept.began);
        insert.execute(params![kept.id.as_str(), began, kept.sample])?;
    }
    let oldest = SystemTime::now().checked_sub(KEPT_FOR);
    connection
        .prepare_cached("DELETE FROM samples WHERE began < ?1")?
        .execute([row::micros(oldest.unwrap_or(SystemTime::UNIX_EPOCH))])?;
    Ok(())
}

/// Samples of stretches that began at `since` or later, oldest first.
fn read(connection: &Connection, since: SystemTime) -> rusqlite::Result<Vec<KeptSample>> {
    let mut statement = connection.prepare_cached(
        "SELECT model_id, began, sample FROM samples WHERE began >= ?1 ORDER BY began, model_id",
    )?;
    let rows = statement.query_map([row::micros(since)], |row| {
        Ok(KeptSample {
            id: row::id(row, 0)?,
            began: row::time(row.get(1)?),
            sample: row.get(2)?,
        })
    })?;
    rows.collect()
}
