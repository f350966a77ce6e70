//! Models that the configuration file declares.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    DeclareError, Entry, NewEntry, Origin, Taken,
    change::{Change, fresh, replace_spec},
    row,
};

/// Makes the entries of the configuration file exactly these.
pub(super) fn declare(
    change: &mut Change<'_>,
    declared: Vec<NewEntry>,
    capacity: usize,
) -> Result<(), DeclareError> {
    let ids: BTreeSet<_> = declared.iter().map(|new| new.id.clone()).collect();
    let mut known = BTreeMap::new();
    for mut entry in from_file(change)? {
        if !ids.contains(&entry.id) {
            change.remove(&entry)?;
            continue;
        }
        // Before any is given, so that declared models can swap aliases.
        for alias in std::mem::take(&mut entry.aliases) {
            change.drop_alias(alias)?;
        }
        known.insert(entry.id.clone(), entry);
    }
    let mut entries = Vec::new();
    for mut new in declared {
        let aliases = std::mem::take(&mut new.aliases);
        let entry = known.remove(&new.id);
        entries.push((take_over(change, new, entry)?, aliases));
    }
    for (mut entry, aliases) in entries {
        change.set_aliases::<DeclareError>(&mut entry, aliases)?;
    }
    if change.count()? > capacity {
        return Err(DeclareError::Full(capacity));
    }
    Ok(())
}

/// The entry of a declared model, without its aliases.
fn take_over(
    change: &mut Change<'_>,
    new: NewEntry,
    known: Option<Entry>,
) -> Result<Entry, DeclareError> {
    let known = match known {
        Some(entry) => Some(entry),
        None => match change.owner(&new.id)? {
            // One that a call has registered becomes the file's.
            Some(by) if by == new.id => change.find(&new.id)?,
            Some(by) => return Err(Taken { name: new.id, by }.into()),
            None => None,
        },
    };
    let mut entry = match known {
        None => fresh(new)?,
        Some(mut entry) => {
            if *entry.spec != new.spec {
                replace_spec(&mut entry, new.spec)?;
            }
            entry.origin = Origin::File;
            entry
        }
    };
    entry.desired |= entry.spec.required || entry.spec.preload;
    row::write(change.connection(), &entry)?;
    Ok(entry)
}

fn from_file(change: &Change<'_>) -> rusqlite::Result<Vec<Entry>> {
    let mut statement = change.connection().prepare(&format!(
        "SELECT {} FROM models WHERE origin = '{}'",
        row::COLUMNS,
        row::origin_name(Origin::File)
    ))?;
    let rows = statement.query_map([], row::read)?;
    rows.collect()
}
