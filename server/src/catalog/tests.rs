//! The catalog on real files.

mod declarations;
mod deferred_writes;
mod entries;
mod files;
mod lists;
mod names;
mod switches;

use std::path::PathBuf;

use super::*;
use crate::model::{Source, Spec};

/// A catalog in a directory of its own.
struct TestCatalog {
    directory: tempfile::TempDir,
    catalog: Catalog,
}

impl Catalog {
    /// Registers `spec` under `id`; where `id` is an alias, its model is meant. The same spec again changes
    /// nothing.
    async fn register(
        &self,
        id: ModelId,
        spec: Spec,
        on_conflict: OnConflict,
    ) -> Result<CatalogEntry, RegisterError> {
        let capacity = self.0.capacity;
        let work =
            move |change: &mut change::Change<'_>| change.register(id, spec, on_conflict, capacity);
        self.0.writer.run(work).await
    }
}

impl TestCatalog {
    fn new() -> Self {
        Self::with_capacity(2_000)
    }

    fn with_capacity(capacity: usize) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let catalog = Catalog::open(
            &directory.path().join("catalog.db"),
            capacity,
            &Supervisor::default(),
        )
        .expect("a new catalog");
        Self { directory, catalog }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("catalog.db")
    }

    /// Closes the catalog and opens it again.
    async fn reopened(self) -> Self {
        self.catalog.close().await;
        let catalog =
            Catalog::open(&self.path(), 2_000, &Supervisor::default()).expect("the catalog again");
        Self { catalog, ..self }
    }

    /// A second catalog in a copy of the files as they are: what would be left if the process died now.
    fn after_a_crash(&self) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        for file in ["catalog.db", "catalog.db-wal"] {
            let from = self.directory.path().join(file);
            if from.exists() {
                std::fs::copy(from, directory.path().join(file)).expect("a copy");
            }
        }
        let catalog = Catalog::open(
            &directory.path().join("catalog.db"),
            2_000,
            &Supervisor::default(),
        )
        .expect("what was left");
        Self { directory, catalog }
    }

    async fn create(&self, name: &str) -> CatalogEntry {
        let created = self.catalog.create(new(name), None).await;
        created.expect("created")
    }

    async fn create_with(
        &self,
        name: &str,
        aliases: &[&str],
    ) -> Result<CatalogEntry, RegisterError> {
        let aliases = aliases.iter().map(|alias| id(alias)).collect();
        let new = NewEntry {
            aliases,
            ..new(name)
        };
        self.catalog.create(new, None).await
    }

    async fn entry(&self, name: &str) -> Option<CatalogEntry> {
        self.catalog.get(&id(name)).await.expect("readable")
    }

    async fn ids(&self) -> Vec<String> {
        let ids = self.catalog.ids().await.expect("readable");
        ids.iter().map(ToString::to_string).collect()
    }
}

fn id(id: &str) -> ModelId {
    ModelId::parse(id).expect("a well-formed id")
}

fn new(name: &str) -> NewEntry {
    NewEntry {
        id: id(name),
        spec: named(name),
        aliases: Vec::new(),
        origin: ModelOrigin::Api,
    }
}

fn named(name: &str) -> Spec {
    Spec {
        display_name: name.to_owned(),
        ..Spec::of(Source::Demo)
    }
}

fn change(entry: &CatalogEntry, spec: Spec) -> EntryChange {
    EntryChange {
        etag: entry.etag.clone(),
        spec: Some(spec),
        aliases: None,
    }
}
