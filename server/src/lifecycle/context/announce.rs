//! Notifies watchers and drivers of what was changed in the catalog.

use super::Context;
use crate::{
    catalog::{CatalogEntry, EntrySummary},
    lifecycle::command::DriverCommand,
    model::{ModelId, Status},
};

impl Context {
    /// Makes models known that are registered, without a transition.
    pub(in crate::lifecycle) fn track_all(&self, entries: impl IntoIterator<Item = EntrySummary>) {
        let statuses = entries.into_iter().map(|entry| Status {
            suspended: entry.suspended,
            ..Status::unloaded(entry.id)
        });
        self.event_log.track_all(statuses);
    }

    /// An entry was registered, or changed from `before`. For who has locked the model.
    pub(in crate::lifecycle) async fn announce(
        &self,
        before: Option<&CatalogEntry>,
        after: &CatalogEntry,
    ) {
        let event_log = &self.event_log;
        match before {
            None => event_log.track(Status::unloaded(after.id.clone())),
            Some(before) if before.version != after.version => {
                event_log.spec_changed(&after.id, after.version);
            }
            Some(_) => {}
        }
        let aliases = before.map_or(&[][..], |before| &before.aliases);
        if aliases != after.aliases {
            event_log.aliases_changed(&after.id, after.aliases.clone());
        }
        if let Some(model) = self.model(&after.id) {
            // A driver that is gone has nothing to adapt.
            model.send(DriverCommand::EntryChanged).await;
        }
    }

    /// Whether the loaded model of `entry` has to be reloaded for all of its spec to hold.
    pub(in crate::lifecycle) fn needs_reload(&self, entry: &CatalogEntry) -> bool {
        let model = self.model(&entry.id);
        let built = model.and_then(|model| model.facts().built.clone());
        built.is_some_and(|built| !built.builds_the_same_as(&entry.spec))
    }

    /// Ends the driver of the model `id`, which is being deleted, if no worker of it lives and none is
    /// wanted. Says whether none does. `None`: the driver no longer turns.
    pub(in crate::lifecycle) async fn end_driver(&self, id: &ModelId) -> Option<bool> {
        let Some(model) = self.model(id) else {
            return Some(true);
        };
        let ended = match model.send_and_wait(DriverCommand::End).await {
            Some(ended) => ended,
            None if model.is_driven() => return None,
            // A driver that is gone has left no worker behind.
            None => true,
        };
        if ended {
            self.remove(id);
        }
        Some(ended)
    }

    /// The model other than `new` that is still known to have `alias`, which stands for `new`.
    pub(in crate::lifecycle) fn known_with_alias(
        &self,
        alias: &ModelId,
        new: &ModelId,
    ) -> Option<ModelId> {
        let mut others = self.all().into_iter().filter(|model| model.id() != new);
        let known = others.find(|model| model.facts().entry.aliases.contains(alias));
        known.map(|model| model.id().clone())
    }

    /// The aliases of the model `id` may have been changed. For who has locked it.
    pub(in crate::lifecycle) async fn announce_aliases(&self, id: &ModelId) {
        match self.catalog.get(id).await {
            Ok(Some(entry)) => {
                let model = self.model(id);
                if let Some(model) = &model {
                    model.set_entry(&entry);
                }
                self.event_log.aliases_changed(id, entry.aliases);
                if let Some(model) = model {
                    model.send(DriverCommand::EntryChanged).await;
                }
            }
            Ok(None) => {}
            Err(error) => tracing::error!(model = %id, %error, "cannot read what was changed"),
        }
    }
}
