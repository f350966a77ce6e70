//! Switches of aliases: what they begin with, and what changes when the alias moves.
//!
//! The alias and both models are locked until what concerns them is on disk and remembered; drivers hear of it with the lock of their
//! own model alone.

use std::slice;

use super::{DesiredState, LockedModel};
use crate::{
    catalog::{
        AliasMove, CatalogEntry, LoadRequest, OnConflict, RegisterError, RegisterOutcome,
        StorageError,
    },
    lifecycle::{holders::Holder, name_locks::LockedNames, tracked_model::TrackedModel},
    model::{ModelId, Spec, Switch},
};

/// An alias that nobody else switches, with the models that a switch of it would be about, until this is dropped.
#[must_use]
pub(in crate::lifecycle) struct LockedSwitch<'a> {
    desired_state: &'a DesiredState,
    from: Option<ModelId>,
    to: ModelId,
    names: LockedNames,
}

/// A switch that has begun.
#[derive(Debug)]
pub(in crate::lifecycle) struct BegunSwitch {
    pub(in crate::lifecycle) switch: Switch,
    /// The entry of the new model.
    pub(in crate::lifecycle) to: CatalogEntry,
    /// Models that are loaded although nobody asked for them to stay: they outlive the switch's hold.
    pub(in crate::lifecycle) on_demand: Vec<ModelId>,
}

impl DesiredState {
    /// Locks `alias`, what it stands for, and the model that `to` stands for.
    pub(in crate::lifecycle) async fn lock_switch(
        &self,
        alias: &ModelId,
        to: &ModelId,
    ) -> LockedSwitch<'_> {
        let catalog = &self.context.catalog;
        let resolve = || [catalog.resolve(alias), catalog.resolve(to)];
        let alone = slice::from_ref(alias);
        let ([owner, to], names) = self.lock_resolved(resolve, alone).await;
        LockedSwitch {
            desired_state: self,
            from: (owner != *alias).then_some(owner),
            to,
            names,
        }
    }

    /// The alias of the switch that has `ended` well stands for the new model, which is to be loaded; the old one is not, unless it
    /// is wanted otherwise. Says whether it is to be unloaded.
    ///
    /// # Errors
    ///
    /// See [`RegisterError`]: when the new model is gone, or the alias is a model's id. Then nothing has changed.
    pub(in crate::lifecycle) async fn move_alias(
        &self,
        ended: &Switch,
    ) -> Result<bool, RegisterError> {
        let (owner, locked) = self.lock_names_of(ended).await;
        let unload_old = !self.old_is_desired(ended).await?;
        let moved = Some(AliasMove { unload_old });
        self.context.catalog.end_switch(ended, moved).await?;
        self.remember_moved(ended, unload_old);
        drop(locked);
        self.announce_moved(ended, owner.as_ref()).await;
        Ok(unload_old)
    }

    /// As [`Self::move_alias`], of a `switch` whose outcome is on disk already.
    pub(in crate::lifecycle) async fn recover_moved(&self, switch: &Switch) -> bool {
        let (_, locked) = self.lock_names_of(switch).await;
        // Who had the alias until then is not on disk any more.
        let owner = self.context.known_with_alias(&switch.alias, &switch.to);
        // What cannot be read is taken for wanted.
        let unload_old = !self.old_is_desired(switch).await.unwrap_or(true);
        self.remember_moved(switch, unload_old);
        drop(locked);
        self.announce_moved(switch, owner.as_ref()).await;
        unload_old
    }

    /// Whether the old model of `switch` is to stay loaded without the alias. One that is only held goes with its last
    /// holder.
    ///
    /// # Errors
    ///
    /// When the catalog cannot be read.
    pub(in crate::lifecycle) async fn old_is_desired(
        &self,
        switch: &Switch,
    ) -> Result<bool, StorageError> {
        let Some(old) = switch.from.as_ref().filter(|old| **old != switch.to) else {
            return Ok(true);
        };
        let entry = self.context.catalog.get(old).await?;
        let Some(entry) = entry.filter(|entry| entry.id == *old) else {
            return Ok(true);
        };
        let aliased = entry.aliases.iter().any(|alias| *alias != switch.alias);
        Ok(entry.spec.required || aliased)
    }

    /// Locks the alias of `switch`, its models, and what the alias stands for by now, if there is such an alias.
    async fn lock_names_of(&self, switch: &Switch) -> (Option<ModelId>, LockedNames) {
        let alias = &switch.alias;
        let resolve = || [self.context.catalog.resolve(alias)];
        let others: Vec<_> = switch.models().chain([alias]).cloned().collect();
        let ([owner], names) = self.lock_resolved(resolve, &others).await;
        (Some(owner).filter(|owner| owner != alias), names)
    }

    fn remember_moved(&self, switch: &Switch, unload_old: bool) {
        self.remember(&switch.to, true);
        if let Some(old) = switch.from.as_ref().filter(|_| unload_old) {
            self.remember(old, false);
        }
    }

    /// Tells watchers and drivers of the aliases of the models of `switch`, and of `owner`, which had the alias until then: an update
    /// may have given it to another model since the switch began.
    async fn announce_moved(&self, switch: &Switch, owner: Option<&ModelId>) {
        let third = owner.filter(|owner| switch.models().all(|model| model != *owner));
        // The one that has it now first.
        for model in switch.models().chain(third) {
            // Watchers hear of the aliases in the order in which they changed.
            let _locked = self.lock_at_once(model).await;
            self.context.announce_aliases(model).await;
        }
    }

    /// Whether the model `id` is loaded, although nobody asked for it to stay.
    fn is_loaded_on_demand(&self, id: &ModelId) -> bool {
        let undesired =
            |model: &TrackedModel| model.status().state.is_active() && !model.facts().desired;
        let model = self.context.model(id);
        !self.context.holders.is_held(id) && model.is_some_and(|model| undesired(&model))
    }
}

impl LockedSwitch<'_> {
    /// The model that the alias stands for, if there is such an alias.
    pub(in crate::lifecycle) fn from(&self) -> Option<&ModelId> {
        self.from.as_ref()
    }

    /// The new model.
    pub(in crate::lifecycle) fn to(&self) -> &ModelId {
        &self.to
    }

    /// Registers the new model with `spec`, if there is one, takes note of the switch that `make` makes of its entry, and has the
    /// switch hold both models: all of it or nothing. `make` must not block. Then tells of the new model; `begun` has the switch
    /// before anybody else may switch the alias.
    ///
    /// # Errors
    ///
    /// See [`RegisterError`].
    pub(in crate::lifecycle) async fn begin(
        self,
        spec: Option<Spec>,
        make: impl FnOnce(&CatalogEntry) -> Switch + Send + 'static,
        begun: impl FnOnce(&Switch),
    ) -> Result<BegunSwitch, RegisterError> {
        let state = self.desired_state;
        let request = LoadRequest {
            name: self.to.clone(),
            spec: spec.map(|spec| (spec, OnConflict::Refuse)),
            desired: false,
        };
        let registered = state.context.catalog.begin_switch(request, make).await;
        let (RegisterOutcome { before, after }, switch) = registered?;
        let loaded = |id: &&ModelId| state.is_loaded_on_demand(id);
        let on_demand = switch.models().filter(loaded).cloned().collect();
        for model in switch.models() {
            state.holders.add(model, Holder::Switch(switch.id.clone()));
        }
        begun(&switch);
        let mut locked = LockedModel {
            desired_state: state,
            id: self.to,
            names: self.names,
        };
        locked.announce(before.as_ref(), &after).await;
        Ok(BegunSwitch {
            switch,
            to: after,
            on_demand,
        })
    }
}
