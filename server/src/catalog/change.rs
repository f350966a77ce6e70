//! Changes of entries: what they do to the tables, within one transaction.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use uuid::Uuid;

use super::{
    CatalogEntry, DeleteError, LearnedFacts, LoadAttempt, ModelOrigin, NameTaken, NewEntry,
    RegisterError, ResponseToStore, UpdateError, names::Renamed, requests, row,
};
use crate::model::{Etag, ModelId, Spec};

/// What to do with a model that is registered with another spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// Leave it as it is and refuse.
    Refuse,
    /// Replace its spec.
    Replace,
}

/// What somebody asks for who wants a model loaded.
#[derive(Clone, Debug)]
pub struct LoadRequest {
    /// The model, by its id or an alias.
    pub name: ModelId,
    /// Registers the model, or has to equal what is registered.
    pub spec: Option<(Spec, OnConflict)>,
    /// The model is to stay loaded.
    pub desired: bool,
}

/// An entry as a request found it and left it.
#[derive(Clone, Debug)]
pub struct RegisterOutcome {
    /// As it was; `None`: it was registered by the request.
    pub before: Option<CatalogEntry>,
    /// As it is. What is desired of it stays as it was.
    pub after: CatalogEntry,
}

/// A change of an entry.
#[derive(Clone, Debug)]
pub struct EntryChange {
    /// Only if this is its etag.
    pub etag: Etag,
    /// Its new spec; `None`: as it is.
    pub spec: Option<Spec>,
    /// Its new aliases; `None`: as they are.
    pub aliases: Option<Vec<ModelId>>,
}

/// An entry that was changed.
#[derive(Clone, Debug)]
pub struct UpdateOutcome {
    /// As it was.
    pub before: CatalogEntry,
    /// As it is.
    pub after: CatalogEntry,
}

/// A transaction, and what it does to names.
pub(super) struct Change<'c> {
    tx: Transaction<'c>,
    names: Vec<Renamed>,
}

impl OnConflict {
    /// What to do where a load is forced, or not.
    pub fn of(force: bool) -> Self {
        if force { Self::Replace } else { Self::Refuse }
    }
}

impl<'c> Change<'c> {
    pub(super) fn new(tx: Transaction<'c>) -> Self {
        Self {
            tx,
            names: Vec::new(),
        }
    }

    /// Puts it on disk; says what aliases stand for from now on.
    pub(super) fn commit(self) -> rusqlite::Result<Vec<Renamed>> {
        self.tx.commit()?;
        Ok(self.names)
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.tx
    }

    /// The entry that `name` stands for.
    pub(super) fn find(&self, name: &ModelId) -> rusqlite::Result<Option<CatalogEntry>> {
        row::find(&self.tx, name)
    }

    /// Number of entries.
    pub(super) fn count(&self) -> rusqlite::Result<usize> {
        let n: i64 = self
            .tx
            .prepare_cached("SELECT n FROM counts WHERE name = 'models'")?
            .query_row([], |row| row.get(0))?;
        Ok(usize::try_from(n).unwrap_or_default())
    }

    pub(super) fn create(
        &mut self,
        new: NewEntry,
        capacity: usize,
        request: Option<ResponseToStore>,
    ) -> Result<CatalogEntry, RegisterError> {
        if let Some(by) = self.owner(&new.id)? {
            return Err(NameTaken { name: new.id, by }.into());
        }
        if self.count()? >= capacity {
            return Err(RegisterError::Full(capacity));
        }
        let mut entry = new_entry(new)?;
        let aliases = std::mem::take(&mut entry.aliases);
        row::write(&self.tx, &entry)?;
        self.set_aliases::<RegisterError>(&mut entry, aliases)?;
        requests::remember(&self.tx, request, &entry)?;
        Ok(entry)
    }

    pub(super) fn register(
        &mut self,
        id: ModelId,
        spec: Spec,
        on_conflict: OnConflict,
        capacity: usize,
    ) -> Result<CatalogEntry, RegisterError> {
        let Some(mut entry) = self.find(&id)? else {
            let new = NewEntry {
                id,
                spec,
                aliases: Vec::new(),
                origin: ModelOrigin::Api,
            };
            return self.create(new, capacity, None);
        };
        if *entry.spec == spec {
            return Ok(entry);
        }
        if on_conflict == OnConflict::Refuse {
            return Err(RegisterError::Conflict(Box::new(entry)));
        }
        if entry.origin == ModelOrigin::File {
            return Err(RegisterError::Declared(entry.id));
        }
        replace_spec(&mut entry, spec)?;
        row::write(&self.tx, &entry)?;
        Ok(entry)
    }

    /// Registers the spec of `request`, if there is one, and has the model loaded from now on if it says so.
    pub(super) fn request_load(
        &mut self,
        request: LoadRequest,
        capacity: usize,
    ) -> Result<RegisterOutcome, RegisterError> {
        let LoadRequest {
            name,
            spec,
            desired,
        } = request;
        let before = self.find(&name)?;
        let mut after = match (spec, &before) {
            (Some((spec, on_conflict)), _) => self.register(name, spec, on_conflict, capacity)?,
            (None, Some(entry)) => entry.clone(),
            (None, None) => return Err(RegisterError::Unknown(name)),
        };
        if desired {
            self.set_desired(&after.id, true)?;
            after.desired = true;
        }
        Ok(RegisterOutcome { before, after })
    }

    pub(super) fn update(
        &mut self,
        name: &ModelId,
        change: EntryChange,
        request: Option<ResponseToStore>,
    ) -> Result<UpdateOutcome, UpdateError> {
        let before = self.find(name)?.ok_or(UpdateError::Unknown)?;
        if before.etag != change.etag {
            return Err(UpdateError::Stale(before.etag));
        }
        if before.origin == ModelOrigin::File {
            return Err(UpdateError::Declared);
        }
        let mut after = before.clone();
        if let Some(spec) = change.spec
            && *after.spec != spec
        {
            replace_spec(&mut after, spec)?;
            row::write(&self.tx, &after)?;
        }
        if let Some(aliases) = change.aliases {
            self.set_aliases::<UpdateError>(&mut after, aliases)?;
        }
        requests::remember(&self.tx, request, &after)?;
        Ok(UpdateOutcome { before, after })
    }

    pub(super) fn delete(
        &mut self,
        id: &ModelId,
        etag: Option<Etag>,
        force: bool,
        request: Option<ResponseToStore>,
    ) -> Result<CatalogEntry, DeleteError> {
        let entry = self.find(id)?.filter(|entry| entry.id == *id);
        let entry = entry.ok_or(DeleteError::Unknown)?;
        if etag.is_some_and(|etag| etag != entry.etag) {
            return Err(DeleteError::Stale(entry.etag));
        }
        if entry.origin == ModelOrigin::File {
            return Err(DeleteError::Declared);
        }
        if !entry.aliases.is_empty() && !force {
            return Err(DeleteError::Aliased(entry.aliases));
        }
        self.remove(&entry)?;
        requests::remember(&self.tx, request, &entry)?;
        Ok(entry)
    }

    /// Removes `entry` with its aliases and labels.
    pub(super) fn remove(&mut self, entry: &CatalogEntry) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached("DELETE FROM models WHERE id = ?1")?
            .execute([entry.id.as_str()])?;
        let gone = entry.aliases.iter().map(|alias| (alias.clone(), None));
        self.names.extend(gone);
        Ok(())
    }

    /// Gives `entry` these aliases in place of those that it has.
    pub(super) fn set_aliases<E>(
        &mut self,
        entry: &mut CatalogEntry,
        aliases: Vec<ModelId>,
    ) -> Result<(), E>
    where
        E: From<NameTaken> + From<rusqlite::Error>,
    {
        let mut aliases = aliases;
        aliases.sort_unstable();
        aliases.dedup();
        if aliases == entry.aliases {
            return Ok(());
        }
        for alias in std::mem::take(&mut entry.aliases) {
            self.drop_alias(alias)?;
        }
        for alias in &aliases {
            if let Some(by) = self.owner(alias)? {
                let name = alias.clone();
                return Err(NameTaken { name, by }.into());
            }
            self.point_alias(alias.clone(), &entry.id)?;
        }
        entry.aliases = aliases;
        Ok(())
    }

    /// Makes a free alias, or one that exists, stand for the model `id`.
    pub(super) fn point_alias(&mut self, alias: ModelId, id: &ModelId) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached(
                "INSERT INTO aliases (alias, model_id) VALUES (?1, ?2) ON CONFLICT (alias) DO UPDATE SET model_id = \
                 excluded.model_id",
            )?
            .execute([alias.as_str(), id.as_str()])?;
        self.names.push((alias, Some(id.clone())));
        Ok(())
    }

    pub(super) fn drop_alias(&mut self, alias: ModelId) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached("DELETE FROM aliases WHERE alias = ?1")?
            .execute([alias.as_str()])?;
        self.names.push((alias, None));
        Ok(())
    }

    /// The model that `name` stands for, whether as its id or as an alias.
    pub(super) fn owner(&self, name: &ModelId) -> rusqlite::Result<Option<ModelId>> {
        self.tx
            .prepare_cached(
                "SELECT id FROM models WHERE id = ?1 UNION ALL SELECT model_id FROM aliases WHERE alias = ?1",
            )?
            .query_row([name.as_str()], |found| row::id(found, 0))
            .optional()
    }

    pub(super) fn set_desired(&mut self, id: &ModelId, desired: bool) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached(
                // What is so already is not written again, which would cost a flush of the disk. Neither what is to be loaded nor
                // what is to be unloaded stays suspended.
                "UPDATE models SET desired = ?2, suspended = NULL WHERE id = ?1 AND (desired != ?2 OR suspended IS NOT NULL)",
            )?
            .execute(params![id.as_str(), desired])?;
        Ok(())
    }

    pub(super) fn begin_attempt(
        &mut self,
        id: &ModelId,
        attempt: &LoadAttempt,
    ) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached("UPDATE models SET attempt = ?2 WHERE id = ?1")?
            .execute([id.as_str(), &row::to_json(attempt)?])?;
        Ok(())
    }
}

/// The entry that `new` becomes. Its aliases have still to be given to it.
pub(super) fn new_entry(new: NewEntry) -> rusqlite::Result<CatalogEntry> {
    let uid = Uuid::new_v4();
    let now = row::now();
    Ok(CatalogEntry {
        etag: row::etag(&uid, &new.spec)?,
        id: new.id,
        uid,
        spec: Arc::new(new.spec),
        version: 1,
        created: now,
        updated: now,
        origin: new.origin,
        aliases: new.aliases,
        desired: false,
        suspended: None,
        attempt: None,
        learned: LearnedFacts::default(),
    })
}

/// Gives `entry` another spec: a new version.
pub(super) fn replace_spec(entry: &mut CatalogEntry, spec: Spec) -> rusqlite::Result<()> {
    entry.version += 1;
    entry.etag = row::etag(&entry.uid, &spec)?;
    entry.updated = row::now();
    entry.spec = Arc::new(spec);
    Ok(())
}
