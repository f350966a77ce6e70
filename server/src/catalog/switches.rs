//! Switches of aliases: the last of each alias, and those that are under way.

use rusqlite::{Connection, OptionalExtension};

use super::{
    Catalog, CatalogEntry, LoadRequest, NameTaken, RegisterError, RegisterOutcome, StorageError,
    change::Change, row,
};
use crate::model::{Switch, SwitchId};

/// What a switch that succeeded does besides moving the alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AliasMove {
    /// The old model is no longer to be loaded.
    pub unload_old: bool,
}

/// Switches that have ended and are remembered.
const REMEMBERED: i64 = 1_000;

impl Catalog {
    /// Registers what `request` names as the new model of a switch, and takes note of the switch that `make`
    /// makes of its entry: both or neither. `make` must not block.
    ///
    /// # Errors
    ///
    /// See [`RegisterError`]. Then nothing has changed.
    pub async fn begin_switch(
        &self,
        request: LoadRequest,
        make: impl FnOnce(&CatalogEntry) -> Switch + Send + 'static,
    ) -> Result<(RegisterOutcome, Switch), RegisterError> {
        let capacity = self.0.capacity;
        let work = move |change: &mut Change<'_>| {
            let requested = change.request_load(request, capacity)?;
            let switch = make(&requested.after);
            begin(change.connection(), &switch)?;
            Ok((requested, switch))
        };
        self.0.writer.run(work).await
    }

    /// Takes note of how a switch ended. With `moved` the alias, which is made if there is none, stands for
    /// the new model, which is to be loaded.
    ///
    /// # Errors
    ///
    /// See [`RegisterError`]: when the new model is gone or the alias is a model's id.
    pub async fn end_switch(
        &self,
        switch: &Switch,
        moved: Option<AliasMove>,
    ) -> Result<(), RegisterError> {
        let switch = switch.clone();
        self.0
            .writer
            .run(move |change| end(change, &switch, moved))
            .await
    }

    /// The switch `id` as it is after all that was to be written before this.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub async fn switch_after_writes(&self, id: &SwitchId) -> Result<Option<Switch>, StorageError> {
        let id = id.clone();
        let work = move |change: &mut Change<'_>| Ok(find(change.connection(), &id)?);
        self.0.writer.dry_run(work).await
    }

    /// The last switch of each of the first `limit` aliases, by alias, and all that are under way.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub async fn switches(&self, limit: usize) -> Result<Vec<Switch>, StorageError> {
        self.read(move |connection| read(connection, limit)).await
    }
}

/// Takes note of a switch that begins.
fn begin(connection: &Connection, switch: &Switch) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO switches (id, alias, json, ended) VALUES (?1, ?2, ?3, 0)")?
        .execute([
            switch.id.as_str(),
            switch.alias.as_str(),
            &row::to_json(switch)?,
        ])?;
    Ok(())
}

/// Takes note of how a switch ended, and moves its alias if it succeeded.
fn end(
    change: &mut Change<'_>,
    switch: &Switch,
    moved: Option<AliasMove>,
) -> Result<(), RegisterError> {
    if let Some(moved) = moved {
        move_alias(change, switch, moved)?;
    }
    let connection = change.connection();
    connection
        .prepare_cached(
            "INSERT INTO switches (id, alias, json, ended) VALUES (?1, ?2, ?3, 1) ON CONFLICT (id) DO UPDATE SET json = \
             excluded.json, ended = 1",
        )?
        .execute([
            switch.id.as_str(),
            switch.alias.as_str(),
            &row::to_json(switch)?,
        ])?;
    connection
        .prepare_cached("DELETE FROM switches WHERE alias = ?1 AND ended = 1 AND id < ?2")?
        .execute([switch.alias.as_str(), switch.id.as_str()])?;
    connection
        .prepare_cached(
            "DELETE FROM switches WHERE ended = 1 AND id NOT IN (SELECT id FROM switches ORDER BY id DESC LIMIT ?1)",
        )?
        .execute([REMEMBERED])?;
    Ok(())
}

fn move_alias(
    change: &mut Change<'_>,
    switch: &Switch,
    moved: AliasMove,
) -> Result<(), RegisterError> {
    if change.owner(&switch.to)?.as_ref() != Some(&switch.to) {
        return Err(RegisterError::Unknown(switch.to.clone()));
    }
    if change.owner(&switch.alias)?.as_ref() == Some(&switch.alias) {
        return Err(NameTaken {
            name: switch.alias.clone(),
            by: switch.alias.clone(),
        }
        .into());
    }
    change.point_alias(switch.alias.clone(), &switch.to)?;
    change.set_desired(&switch.to, true)?;
    if let Some(from) = &switch.from
        && moved.unload_old
        && *from != switch.to
    {
        change.set_desired(from, false)?;
    }
    Ok(())
}

fn find(connection: &Connection, id: &SwitchId) -> rusqlite::Result<Option<Switch>> {
    let mut statement = connection.prepare_cached("SELECT json FROM switches WHERE id = ?1")?;
    let found = statement.query_row([id.as_str()], |found| row::json(found, 0));
    Ok(found.optional()?.flatten())
}

/// The last switch of each of the first `limit` aliases, by alias, and all that are under way.
fn read(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<Switch>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(
        "SELECT json FROM switches WHERE ended = 0 OR id IN (SELECT max(id) FROM switches GROUP BY alias ORDER BY \
         alias LIMIT ?1) ORDER BY alias, id",
    )?;
    let switches = statement.query_map([limit], |found| row::json(found, 0))?;
    switches.filter_map(Result::transpose).collect()
}
