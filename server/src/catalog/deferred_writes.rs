//! What is written down without anybody waiting for it.
//!
//! Invariant: at most one write of each sort a model waits, the newest.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, Transaction, params};

use super::{LearnedFacts, LoadAttempt, row::to_json};
use crate::model::{ModelId, ModelKind, Suspension};

/// Something about a model that nobody waits for to be on disk.
#[derive(Clone, Debug)]
pub enum DeferredWrite {
    /// The model is suspended, or no longer.
    Suspended(Option<Suspension>),
    /// What loads have taught so far.
    Learned(Box<LearnedFacts>),
    /// An attempt has ended. Takes away its own marker only.
    AttemptEnded(LoadAttempt),
}

/// What is still to be written, by model.
#[derive(Debug, Default)]
pub(super) struct DeferredWrites(Mutex<HashMap<ModelId, Pending>>);

/// What is still to be written of one model.
#[derive(Debug, Default)]
struct Pending {
    suspended: Option<Option<Suspension>>,
    learned: Option<Box<LearnedFacts>>,
    ended: Option<LoadAttempt>,
}

impl DeferredWrites {
    /// Adds a write. Says whether it is the first that waits.
    pub(super) fn add(&self, id: &ModelId, write: DeferredWrite) -> bool {
        let mut waiting = self.lock();
        let first = waiting.is_empty();
        let pending = waiting.entry(id.clone()).or_default();
        match write {
            DeferredWrite::Suspended(suspended) => pending.suspended = Some(suspended),
            DeferredWrite::Learned(learned) => pending.learned = Some(learned),
            DeferredWrite::AttemptEnded(attempt) => pending.ended = Some(attempt),
        }
        first
    }

    /// Writes what waits. What cannot be written is logged; of it only ends of attempts are kept for
    /// another time, as nothing that comes later could contradict them. Says whether anything waited.
    pub(super) fn write(&self, connection: &mut Connection) -> bool {
        let waiting = mem::take(&mut *self.lock());
        if waiting.is_empty() {
            return false;
        }
        let written = connection
            .transaction()
            .and_then(|tx| write(tx, &waiting).map(drop));
        if let Err(error) = written {
            tracing::error!(%error, models = waiting.len(), "notes about models were not written");
            let mut kept = self.lock();
            for (id, pending) in waiting {
                if let Some(attempt) = pending.ended {
                    kept.entry(id).or_default().ended.get_or_insert(attempt);
                }
            }
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ModelId, Pending>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(tx: Transaction<'_>, waiting: &HashMap<ModelId, Pending>) -> rusqlite::Result<()> {
    for (id, pending) in waiting {
        if let Some(suspended) = &pending.suspended {
            let json = suspended.as_ref().map(to_json).transpose()?;
            tx.prepare_cached("UPDATE models SET suspended = ?2 WHERE id = ?1")?
                .execute(params![id.as_str(), json])?;
        }
        if let Some(learned) = &pending.learned {
            let kind = learned.metadata.kind.map(ModelKind::name);
            tx.prepare_cached(
                "UPDATE models SET learned = ?2, kind = coalesce(json_extract(spec, '$.kind'), ?3) WHERE id = ?1",
            )?
            .execute(params![id.as_str(), to_json(learned)?, kind])?;
        }
        if let Some(attempt) = &pending.ended {
            tx.prepare_cached("UPDATE models SET attempt = NULL WHERE id = ?1 AND attempt = ?2")?
                .execute([id.as_str(), &to_json(attempt)?])?;
        }
    }
    tx.commit()
}
