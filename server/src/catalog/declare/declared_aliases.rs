//! Aliases that the configuration file declares.
//!
//! A switch moves them as it moves any other, and a restart must not undo it. So what the file had at the last
//! start is kept: where it says the same again, the alias stays where it was switched to; where it says something
//! else, the file is the newer one.

use std::collections::{BTreeMap, btree_map::Entry as Slot};

use super::{
    super::{DeclareError, ModelOrigin, NameTaken},
    Change, row,
};
use crate::model::ModelId;

/// Has the aliases of the file stand for these models, which exist.
pub(super) fn declare(
    change: &mut Change<'_>,
    declared: Vec<(ModelId, ModelId)>,
) -> Result<(), DeclareError> {
    let now = each_once(declared)?;
    let before = read(change)?;
    for (alias, model) in &before {
        let owner = change.owner(alias)?;
        let replaced = now.get(alias).is_some_and(|now| now != model);
        let withdrawn = !now.contains_key(alias) && owner.as_ref() == Some(model);
        if owner.is_some_and(|owner| owner != *alias) && (replaced || withdrawn) {
            change.drop_alias(alias.clone())?;
        }
    }
    for (alias, model) in &now {
        match change.owner(alias)? {
            Some(_) if before.get(alias) == Some(model) => {}
            Some(by) if by != *model && !is_switched(change, alias, &by)? => {
                let name = alias.clone();
                return Err(NameTaken { name, by }.into());
            }
            _ => change.point_alias(alias.clone(), model)?,
        }
    }
    Ok(write(change, &now)?)
}

/// Whether `alias`, which the file did not have before, came to a model of the file by a switch.
fn is_switched(change: &Change<'_>, alias: &ModelId, by: &ModelId) -> rusqlite::Result<bool> {
    let owner = change.find(by)?;
    Ok(by != alias && owner.is_some_and(|owner| owner.origin == ModelOrigin::File))
}

fn each_once(
    declared: Vec<(ModelId, ModelId)>,
) -> Result<BTreeMap<ModelId, ModelId>, DeclareError> {
    let mut once = BTreeMap::new();
    for (alias, model) in declared {
        match once.entry(alias) {
            Slot::Vacant(slot) => drop(slot.insert(model)),
            Slot::Occupied(taken) if *taken.get() != model => {
                let (name, by) = taken.remove_entry();
                return Err(NameTaken { name, by }.into());
            }
            Slot::Occupied(_) => {}
        }
    }
    Ok(once)
}

fn read(change: &Change<'_>) -> rusqlite::Result<BTreeMap<ModelId, ModelId>> {
    let mut statement = change
        .connection()
        .prepare("SELECT alias, model_id FROM declared_aliases")?;
    let rows = statement.query_map([], |found| Ok((row::id(found, 0)?, row::id(found, 1)?)))?;
    rows.collect()
}

fn write(change: &Change<'_>, aliases: &BTreeMap<ModelId, ModelId>) -> rusqlite::Result<()> {
    let connection = change.connection();
    connection.execute("DELETE FROM declared_aliases", [])?;
    let mut statement = connection.prepare("INSERT INTO declared_aliases VALUES (?1, ?2)")?;
    for (alias, model) in aliases {
        statement.execute([alias.as_str(), model.as_str()])?;
    }
    Ok(())
}
