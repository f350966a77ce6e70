//! A catalog that lasts as long as the server.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use futures::future::{BoxFuture, FutureExt, ready};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Catalog, Entry, OnConflict, RegisterError};
use crate::model::{Etag, ModelId, Spec};

/// Keeps what is registered in memory.
#[derive(Debug)]
pub struct MemoryCatalog {
    entries: Mutex<BTreeMap<ModelId, (Uuid, Entry)>>,
    capacity: usize,
}

// === impl MemoryCatalog ===

impl MemoryCatalog {
    /// An empty catalog for at most `capacity` models.
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: Mutex::default(),
            capacity,
        }
    }

    fn register_now(
        &self,
        id: ModelId,
        spec: Spec,
        on_conflict: OnConflict,
    ) -> Result<Entry, RegisterError> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let full = entries.len() >= self.capacity;
        let now = SystemTime::now();
        match entries.get_mut(&id) {
            Some((_, entry)) if *entry.spec == spec => Ok(entry.clone()),
            Some((_, entry)) if on_conflict == OnConflict::Refuse => {
                Err(RegisterError::Conflict(Box::new(entry.clone())))
            }
            Some((uid, entry)) => {
                entry.version += 1;
                entry.etag = etag(uid, entry.version);
                entry.updated = now;
                entry.spec = Arc::new(spec);
                Ok(entry.clone())
            }
            None if full => Err(RegisterError::Full(self.capacity)),
            None => {
                let uid = Uuid::new_v4();
                let etag = etag(&uid, 1);
                let entry = Entry {
                    id: id.clone(),
                    spec: Arc::new(spec),
                    version: 1,
                    etag,
                    created: now,
                    updated: now,
                };
                entries.insert(id, (uid, entry.clone()));
                Ok(entry)
            }
        }
    }
}

impl Catalog for MemoryCatalog {
    fn register(
        &self,
        id: ModelId,
        spec: Spec,
        on_conflict: OnConflict,
    ) -> BoxFuture<'_, Result<Entry, RegisterError>> {
        ready(self.register_now(id, spec, on_conflict)).boxed()
    }

    fn get<'a>(&'a self, id: &'a ModelId) -> BoxFuture<'a, Option<Entry>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        ready(entries.get(id).map(|(_, entry)| entry.clone())).boxed()
    }

    fn list(&self, limit: usize) -> BoxFuture<'_, Vec<Entry>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        ready(
            entries
                .values()
                .take(limit)
                .map(|(_, entry)| entry.clone())
                .collect::<Vec<_>>(),
        )
        .boxed()
    }
}

/// A validator that no other spec, and no other model of the same id, ever has.
fn etag(uid: &Uuid, version: u64) -> Etag {
    let digest = Sha256::new()
        .chain_update(uid.as_bytes())
        .chain_update(version.to_be_bytes())
        .finalize();
    Etag(
        digest
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Source;

    fn id(id: &str) -> ModelId {
        ModelId::parse(id).expect("a well-formed id")
    }

    fn named(name: &str) -> Spec {
        Spec {
            display_name: name.to_owned(),
            ..Spec::of(Source::Demo)
        }
    }

    #[tokio::test]
    async fn the_same_spec_again_changes_nothing() {
        let catalog = MemoryCatalog::new(10);
        let first = catalog
            .register(id("m"), named("a"), OnConflict::Refuse)
            .await
            .expect("new");
        let again = catalog
            .register(id("m"), named("a"), OnConflict::Replace)
            .await
            .expect("equal");
        assert_eq!((again.version, again.etag), (first.version, first.etag));
    }

    #[tokio::test]
    async fn another_spec_is_a_conflict_or_a_new_version() {
        let catalog = MemoryCatalog::new(10);
        let first = catalog
            .register(id("m"), named("a"), OnConflict::Refuse)
            .await
            .expect("new");
        let refused = catalog
            .register(id("m"), named("b"), OnConflict::Refuse)
            .await;
        assert!(matches!(refused, Err(RegisterError::Conflict(entry)) if entry.version == 1));
        let second = catalog
            .register(id("m"), named("b"), OnConflict::Replace)
            .await
            .expect("replaced");
        assert_eq!(second.version, 2);
        assert_ne!(second.etag, first.etag);
        assert_eq!(catalog.get(&id("m")).await.map(|e| e.version), Some(2));
    }

    #[tokio::test]
    async fn a_full_catalog_refuses_new_models_only() {
        let catalog = MemoryCatalog::new(1);
        catalog
            .register(id("m"), named("a"), OnConflict::Refuse)
            .await
            .expect("new");
        let full = catalog
            .register(id("n"), named("a"), OnConflict::Refuse)
            .await;
        assert!(matches!(full, Err(RegisterError::Full(1))));
        assert!(
            catalog
                .register(id("m"), named("b"), OnConflict::Replace)
                .await
                .is_ok()
        );
    }

    #[tokio::test]
    async fn a_list_is_ordered_and_bounded() {
        let catalog = MemoryCatalog::new(10);
        for name in ["c", "a", "b"] {
            catalog
                .register(id(name), named(""), OnConflict::Refuse)
                .await
                .expect("new");
        }
        let ids: Vec<_> = catalog
            .list(2)
            .await
            .into_iter()
            .map(|e| e.id.to_string())
            .collect();
        assert_eq!(ids, ["a", "b"]);
    }
}
