//! The last switch of each alias.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::model::{ModelId, Switch, SwitchStrategy};

/// The last switch of each alias.
#[derive(Debug, Default)]
pub(super) struct Switches(Mutex<BTreeMap<ModelId, Switch>>);

impl Switches {
    /// `switch` is the last of its alias, or has come to its end.
    pub(super) fn put(&self, switch: &Switch) {
        self.lock().insert(switch.alias.clone(), switch.clone());
    }

    /// Whether a switch of `alias` is under way.
    pub(super) fn is_busy(&self, alias: &ModelId) -> bool {
        is_under_way(self.lock().get(alias))
    }

    /// At most `limit` of them, by alias.
    pub(super) fn first(&self, limit: usize) -> Vec<Switch> {
        self.lock().values().take(limit).cloned().collect()
    }

    /// The model that the model `id` makes room for: it is the old one of a switch that is under way and
    /// unloads first.
    pub(super) fn replaced_by(&self, id: &ModelId) -> Option<ModelId> {
        let switches = self.lock();
        let by = |switch: &&Switch| {
            is_under_way(Some(switch))
                && switch.strategy == SwitchStrategy::UnloadFirst
                && switch.from.as_ref() == Some(id)
                && switch.to != *id
        };
        switches.values().find(by).map(|switch| switch.to.clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ModelId, Switch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_under_way(switch: Option<&Switch>) -> bool {
    switch.is_some_and(|switch| switch.outcome.is_none())
}
