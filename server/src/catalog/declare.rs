//! Models that the configuration file declares.

mod declared_aliases;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    CatalogEntry, DeclareError, ModelOrigin, NameTaken, NewEntry,
    change::{Change, new_entry, replace_spec},
    row,
};

/// Makes the entries of the configuration file exactly these. An alias that was switched stays where it is for
/// as long as the file says the same of it as when it was switched.
pub(super) fn declare(
    change: &mut Change<'_>,
    declared: Vec<NewEntry>,
    capacity: usize,
) -> Result<(), DeclareError> {
    let ids: BTreeSet<_> = declared.iter().map(|new| new.id.clone()).collect();
    let mut known = BTreeMap::new();
    for entry in from_file(change)? {
        if ids.contains(&entry.id) {
            known.insert(entry.id.clone(), entry);
        } else {
            change.remove(&entry)?;
        }
    }
    let mut aliases = Vec::new();
    for mut new in declared {
        let of_it = std::mem::take(&mut new.aliases);
        aliases.extend(of_it.into_iter().map(|alias| (alias, new.id.clone())));
        let entry = known.remove(&new.id);
        upsert(change, new, entry)?;
    }
    declared_aliases::declare(change, aliases)?;
    if change.count()? > capacity {
        return Err(DeclareError::Full(capacity));
    }
    Ok(())
}

/// Makes a declared model's entry, as far as its aliases are not concerned.
fn upsert(
    change: &mut Change<'_>,
    new: NewEntry,
    known: Option<CatalogEntry>,
) -> Result<(), DeclareError> {
    let known = match known {
        Some(entry) => Some(entry),
        None => match change.owner(&new.id)? {
            // One that a call has registered becomes the file's.
            Some(by) if by == new.id => change.find(&new.id)?,
            Some(by) => return Err(NameTaken { name: new.id, by }.into()),
            None => None,
        },
    };
    let mut entry = match known {
        None => new_entry(new)?,
        Some(mut entry) => {
            if *entry.spec != new.spec {
                replace_spec(&mut entry, new.spec)?;
            }
            if entry.origin == ModelOrigin::Api {
                for alias in std::mem::take(&mut entry.aliases) {
                    change.drop_alias(alias)?;
                }
            }
            entry.origin = ModelOrigin::File;
            entry
        }
    };
    entry.desired |= entry.spec.required || entry.spec.preload;
    row::write(change.connection(), &entry)?;
    Ok(())
}

fn from_file(change: &Change<'_>) -> rusqlite::Result<Vec<CatalogEntry>> {
    let mut statement = change.connection().prepare(&format!(
        "SELECT {} FROM models WHERE origin = '{}'",
        row::COLUMNS,
        ModelOrigin::File.name()
    ))?;
    let rows = statement.query_map([], row::read)?;
    rows.collect()
}
