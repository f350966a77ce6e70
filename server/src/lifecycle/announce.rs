//! Tells watchers and drivers what was changed in the catalog.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Fleet, Model, command::Command};
use crate::{
    catalog::CatalogEntry,
    model::{ModelId, Status},
};

impl Fleet {
    /// Makes models known that are registered, without a transition.
    pub fn track_all(&self, entries: impl IntoIterator<Item = ModelId>) {
        let statuses = entries.into_iter().map(Status::unloaded);
        self.context.hub.track_all(statuses);
    }

    /// An entry was registered, or changed from `before`.
    pub(super) async fn announce(&self, before: Option<&CatalogEntry>, after: &CatalogEntry) {
        let hub = &self.context.hub;
        match before {
            None => hub.track(Status::unloaded(after.id.clone())),
            Some(before) if before.version != after.version => {
                hub.spec_changed(&after.id, after.version);
            }
            Some(_) => {}
        }
        let aliases = before.map_or(&[][..], |before| &before.aliases);
        if aliases != after.aliases {
            hub.aliases_changed(&after.id, after.aliases.clone());
        }
        if let Some(model) = self.context.model(&after.id) {
            let command = Command::EntryChanged(Box::new(after.clone()));
            // A driver that is gone has nothing to adapt.
            let _ = model.commands.send(command).await;
        }
    }

    /// Whether the loaded model of `entry` has to be reloaded for all of its spec to hold.
    pub fn needs_reload(&self, entry: &CatalogEntry) -> bool {
        let model = self.context.model(&entry.id);
        let built = model.and_then(|model| model.facts().built.clone());
        built.is_some_and(|built| !built.builds_the_same_as(&entry.spec))
    }

    /// Ends the driver of the model `id`, which is being deleted, if no worker of it lives and none is
    /// wanted. Says whether none does.
    pub(super) async fn end_driver(&self, id: &ModelId) -> bool {
        let Some(model) = self.context.model(id) else {
            return true;
        };
        let (reply, ended) = oneshot::channel();
        let sent = model.commands.send(Command::End(reply)).await;
        // A driver that is gone has left no worker behind.
        let ended = sent.is_err() || ended.await.unwrap_or(true);
        if ended {
            self.context.untrack(id);
        }
        ended
    }

    /// The entry that a driver was tracked with is no longer registered.
    pub(super) async fn untrack(&self, entry: &CatalogEntry) {
        let of_it = |model: &Arc<Model>| model.facts().entry.uid == entry.uid;
        if self
            .context
            .model(&entry.id)
            .is_some_and(|model| of_it(&model))
            && self.end_driver(&entry.id).await
        {
            self.context.hub.remove(&entry.id);
        }
    }

    /// The aliases of the model `id` may have been changed.
    pub(super) async fn announce_aliases(&self, id: &ModelId) {
        match self.catalog.get(id).await {
            Ok(Some(entry)) => {
                self.context.hub.aliases_changed(id, entry.aliases.clone());
                if let Some(model) = self.context.model(id) {
                    let command = Command::EntryChanged(Box::new(entry));
                    let _ = model.commands.send(command).await;
                }
            }
            Ok(None) => {}
            Err(error) => tracing::error!(model = %id, %error, "cannot read what was changed"),
        }
    }
}
