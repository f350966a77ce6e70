//! Who holds which models: sessions, and switches that are under way.
//!
//! Invariants: a model is in the map exactly as long as somebody holds it; there is one [`HoldersWriter`], which
//! `desired_state` has. Holders are added under the lock of the model only, so that what was checked under it holds as long.
//! They may go at any time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::session_id::SessionName;
use crate::model::{ModelId, SwitchId};

/// Who holds which models, for everybody to read. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Holders(Arc<Mutex<BTreeMap<ModelId, BTreeSet<Holder>>>>);

/// Changes who holds which models.
#[derive(Debug, Default)]
pub(super) struct HoldersWriter(Holders);

/// Somebody who holds a model, by a name that everybody may see.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A session.
    Session(SessionName),
    /// A switch, until it has ended.
    Switch(SwitchId),
}

impl HoldersWriter {
    /// What others read.
    pub(super) fn holders(&self) -> &Holders {
        &self.0
    }

    /// `holder` holds `model`. Says whether it did not before.
    pub(super) fn add(&self, model: &ModelId, holder: Holder) -> bool {
        let mut models = self.0.lock();
        models.entry(model.clone()).or_default().insert(holder)
    }

    /// `holder` holds `model` no more. Says whether nobody does now.
    pub(super) fn remove(&self, model: &ModelId, holder: &Holder) -> bool {
        let mut models = self.0.lock();
        let Some(holders) = models.get_mut(model) else {
            return true;
        };
        holders.remove(holder);
        let free = holders.is_empty();
        if free {
            models.remove(model);
        }
        free
    }

    /// Nobody holds `model` any more.
    pub(super) fn remove_all(&self, model: &ModelId) {
        self.0.lock().remove(model);
    }
}

impl Holders {
    /// Who holds `model`.
    pub(super) fn of(&self, model: &ModelId) -> Vec<Holder> {
        let models = self.lock();
        models.get(model).into_iter().flatten().cloned().collect()
    }

    /// Models that `holder` holds.
    pub(super) fn held_by(&self, holder: &Holder) -> Vec<ModelId> {
        let models = self.lock();
        let held = models
            .iter()
            .filter(|(_, holders)| holders.contains(holder));
        held.map(|(model, _)| model.clone()).collect()
    }

    /// Whether somebody holds `model`.
    pub(super) fn is_held(&self, model: &ModelId) -> bool {
        self.lock().contains_key(model)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ModelId, BTreeSet<Holder>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(name) => write!(f, "session/{name}"),
            Self::Switch(id) => write!(f, "switch/{id}"),
        }
    }
}
