//! Who holds which models: sessions, and switches that are under way.
//!
//! Invariants: a model is in the map exactly as long as somebody holds it; holders are added under
//! `desired_state_lock` only, so that what was checked under it holds as long. They may go at any time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::session_id::SessionName;
use crate::model::{ModelId, SwitchId};

/// Who holds which models.
#[derive(Debug, Default)]
pub(super) struct Holders(Mutex<BTreeMap<ModelId, BTreeSet<Holder>>>);

/// Somebody who holds a model, by a name that everybody may see.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A session.
    Session(SessionName),
    /// A switch, until it has ended.
    Switch(SwitchId),
}

impl Holders {
    /// `holder` holds `model`. Says whether it did not before.
    pub(super) fn add(&self, model: &ModelId, holder: Holder) -> bool {
        self.lock().entry(model.clone()).or_default().insert(holder)
    }

    /// `holder` holds `model` no more. Says whether nobody does now.
    pub(super) fn remove(&self, model: &ModelId, holder: &Holder) -> bool {
        let mut models = self.lock();
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
    pub(super) fn release(&self, model: &ModelId) {
        self.lock().remove(model);
    }

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
