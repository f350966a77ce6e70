//! Models that are loaded, and watchers.

use hangar_client::{
    WatchEvent,
    v1::{ChangeKind, ModelState},
};
use hangar_tests::{
    processes,
    scripted::Script,
    server::{DEADLINE, TestServer},
};
use tokio::time::timeout;

use super::*;

impl CatalogServer {
    /// Registers and loads the model `m`, which has an alias.
    async fn loaded(&mut self) -> Result<Model> {
        let path = self.fixtures.scripted("m", &Script::default())?;
        let request = CreateModelRequest {
            spec: Some(ModelSpec {
                source: from(&path),
                ..ModelSpec::default()
            }),
            ..new("m")
        };
        let created = self.catalog.create_model(request).await?.into_inner();
        self.connect().await?.load("m").wait().await?;
        created.model.context("the entry")
    }
}

#[hangar_tests::test]
async fn what_the_engine_was_built_from_takes_a_reload() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let created = server.loaded().await?;
    let (updated, reload) = server.update(renamed(&created, "new")).await?;
    assert!(!reload);
    let mut longer = updated.clone();
    longer.spec.get_or_insert_default().context_length = 77;
    let request = change(&longer, &["spec.context_length"]);
    let check = UpdateModelRequest {
        validate_only: true,
        ..request.clone()
    };
    assert!(server.update(check).await?.1);
    assert!(server.update(request).await?.1);
    Ok(())
}

#[hangar_tests::test]
async fn a_loaded_model_is_deleted_by_force_and_then_gone() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    server.loaded().await?;
    let refused = server.delete("m", false).await;
    let code = Code::FailedPrecondition;
    refusal(refused, code, ErrorReason::ModelLoaded);
    let workers = processes::children(server.pid())?;
    assert_eq!(workers.len(), 1);
    let request = DeleteModelRequest {
        model_id: "m".to_owned(),
        force: true,
        ..DeleteModelRequest::default()
    };
    let deleted = server.catalog.delete_model(request).await?.into_inner();
    let unload = deleted.unload.context("an unload")?;
    assert!(unload.was_loaded && unload.model_id == "m");
    assert!(!processes::is_running(workers[0]));
    let gone = server.get("m").await;
    refusal(gone, Code::NotFound, ErrorReason::ModelNotFound);
    // Another of its id begins anew.
    server.loaded().await?;
    Ok(())
}

#[hangar_tests::test]
async fn nothing_is_unloaded_for_a_deletion_that_is_refused() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    server.loaded().await?;
    let request = DeleteModelRequest {
        model_id: "m".to_owned(),
        etag: "stale".to_owned(),
        force: true,
        ..DeleteModelRequest::default()
    };
    let refused = server.catalog.delete_model(request).await;
    refusal(refused, Code::Aborted, ErrorReason::EtagMismatch);
    assert_eq!(processes::children(server.pid())?.len(), 1);
    Ok(())
}

#[hangar_tests::test]
async fn watchers_get_what_is_created_changed_and_removed() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let mut watch = server.connect().await?.watch().stream();
    let mut heard = async || -> Result<WatchEvent> {
        let event = timeout(DEADLINE, watch.next()).await?;
        Ok(event.context("the watch ended")??)
    };
    assert!(matches!(heard().await?, WatchEvent::Snapshot { .. }));
    let created = server.create("m").await?;
    server.update(renamed(&created, "new")).await?;
    for version in [1, 2] {
        let changed = match heard().await? {
            WatchEvent::Changed(changed) => changed,
            other => anyhow::bail!("not a change: {other:?}"),
        };
        assert_eq!(
            (changed.kind(), changed.version),
            (ChangeKind::Spec, version)
        );
        let status = changed.status.context("no status")?;
        assert_eq!(
            (&*status.model_id, status.state()),
            ("m", ModelState::Unloaded)
        );
    }
    server.delete("m", false).await?;
    let removed = heard().await?;
    assert!(
        matches!(&removed, WatchEvent::Removed { model_id, .. } if model_id == "m"),
        "{removed:?}"
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_new_watcher_finds_what_is_registered_also_after_a_restart() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let directory = tempfile::tempdir()?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .data_in(directory.path());
    let mut server = CatalogServer::with(&options).await?;
    server.create("m").await?;
    server.create("n").await?;
    server.server.terminate().await?;
    let hangar = options.start().await?;
    let mut watch = hangar.connect().await?.watch().stream();
    let event = timeout(DEADLINE, watch.next()).await?;
    let Some(Ok(WatchEvent::Snapshot { models, .. })) = event else {
        anyhow::bail!("the watch began with {event:?}");
    };
    let mut states: Vec<_> = models
        .iter()
        .map(|status| (status.model_id.clone(), status.state()))
        .collect();
    states.sort_by(|a, b| a.0.cmp(&b.0));
    let unloaded = ModelState::Unloaded;
    assert_eq!(
        states,
        [("m".to_owned(), unloaded), ("n".to_owned(), unloaded)]
    );
    Ok(())
}
