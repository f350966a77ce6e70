//! What is registered as far as it was acknowledged.

use anyhow::{Context, Result};
use hangar_client::v1::{DesiredState, Model};

/// An entry as a client knows it. Without a uid neither that nor the etag is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownEntry {
    pub(crate) uid: String,
    pub(crate) etag: String,
    pub(crate) version: u64,
    /// Set by the clients.
    pub(crate) priority: i32,
    pub(crate) aliases: Vec<String>,
    pub(crate) desired: bool,
}

/// A change that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Registered with this priority and these aliases.
    Create(i32, Vec<String>),
    /// Registered with this priority and loaded.
    Load(i32),
    /// Given this priority.
    Update(i32),
    /// Loaded or unloaded.
    Desire(bool),
    /// Removed.
    Delete,
}

/// What is known of one id: the last state that was acknowledged, and the change that nobody knows about.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExpectedState {
    pub(crate) entry: Option<KnownEntry>,
    pub(crate) pending: Option<Change>,
}

impl KnownEntry {
    pub(crate) fn of(model: Model, desired: DesiredState) -> Self {
        Self {
            uid: model.uid,
            etag: model.etag,
            version: model.version,
            priority: model.spec.map(|spec| spec.priority).unwrap_or_default(),
            aliases: model.aliases,
            desired: desired == DesiredState::Loaded,
        }
    }
}

impl KnownEntry {
    /// What a load with a spec has registered, as far as its answer says.
    pub(crate) fn loaded(priority: i32) -> Self {
        Self {
            uid: String::new(),
            etag: String::new(),
            version: 1,
            priority,
            aliases: Vec::new(),
            desired: true,
        }
    }

    fn fits(&self, seen: &Self) -> bool {
        if self.uid.is_empty() {
            return Self {
                uid: seen.uid.clone(),
                etag: seen.etag.clone(),
                ..self.clone()
            } == *seen;
        }
        self == seen
    }
}

impl ExpectedState {
    /// The change that was begun was acknowledged; the entry is now as the answer said, if there was one.
    pub(crate) fn acknowledge(&mut self, reported: Option<KnownEntry>) -> Result<()> {
        self.check_change(reported.as_ref())?;
        self.entry = reported;
        self.pending = None;
        Ok(())
    }

    /// The entry was seen: it has to be as it was before or after the change that was begun.
    pub(crate) fn settle(&mut self, seen: Option<KnownEntry>) -> Result<()> {
        let as_before = match (&self.entry, &seen) {
            (Some(known), Some(seen)) => known.fits(seen),
            (known, seen) => known.is_none() && seen.is_none(),
        };
        if !as_before {
            let context = || format!("{self:?}, and seen was {seen:?}");
            self.check_change(seen.as_ref()).with_context(context)?;
        }
        self.entry = seen;
        self.pending = None;
        Ok(())
    }

    /// Whether the change that was begun leads from the entry to `after`.
    fn check_change(&self, after: Option<&KnownEntry>) -> Result<()> {
        let change = self.pending.as_ref().context("nothing was changed")?;
        let fine = match (change, &self.entry, after) {
            (Change::Create(priority, aliases), None, Some(new)) => {
                (new.version, new.priority, new.desired) == (1, *priority, false)
                    && new.aliases == *aliases
            }
            // What is registered by a load is on disk before the wish to load it is.
            (Change::Load(priority), None, Some(new)) => {
                (new.version, new.priority) == (1, *priority) && new.aliases.is_empty()
            }
            (Change::Update(priority), Some(old), Some(new)) => {
                let expected = KnownEntry {
                    priority: *priority,
                    version: old.version + 1,
                    etag: new.etag.clone(),
                    ..old.clone()
                };
                *new == expected && new.etag != old.etag
            }
            (Change::Desire(desired), Some(old), Some(new)) => {
                let expected = KnownEntry {
                    desired: *desired,
                    ..old.clone()
                };
                *new == expected
            }
            (Change::Delete, Some(_), None) => true,
            // A model that is loaded is unloaded before it is deleted.
            (Change::Delete, Some(old), Some(new)) => {
                let expected = KnownEntry {
                    desired: false,
                    ..old.clone()
                };
                *new == expected
            }
            _ => false,
        };
        anyhow::ensure!(
            fine,
            "{change:?} does not lead from {:?} to {after:?}",
            self.entry
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(version: u64) -> KnownEntry {
        KnownEntry {
            uid: "uid".to_owned(),
            etag: format!("etag-{version}"),
            version,
            priority: i32::try_from(version).unwrap_or_default(),
            ..KnownEntry::loaded(0)
        }
    }

    fn settled(
        entry: Option<KnownEntry>,
        pending: Option<Change>,
        seen: Option<KnownEntry>,
    ) -> bool {
        ExpectedState { entry, pending }.settle(seen).is_ok()
    }

    #[hangar_tests::test]
    fn lost_acknowledged_changes_are_noticed() {
        assert!(settled(Some(known(2)), None, Some(known(2))));
        assert!(!settled(Some(known(2)), None, Some(known(1))), "an update");
        assert!(!settled(Some(known(2)), None, None), "a creation");
        assert!(!settled(None, None, Some(known(1))), "a removal");
        let unloaded = KnownEntry {
            desired: false,
            ..known(2)
        };
        assert!(!settled(Some(known(2)), None, Some(unloaded)), "a wish");
    }

    #[hangar_tests::test]
    fn unacknowledged_changes_may_have_happened_or_not() {
        for seen in [known(1), known(2)] {
            assert!(settled(Some(known(1)), Some(Change::Update(2)), Some(seen)));
        }
        assert!(!settled(
            Some(known(1)),
            Some(Change::Update(3)),
            Some(known(2))
        ));
        assert!(settled(Some(known(1)), Some(Change::Delete), None));
        assert!(settled(None, Some(Change::Load(1)), Some(known(1))));
    }
}
