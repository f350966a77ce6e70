//! DeleteModel.

use hangar_client::v1::{ModelState::Ready, ModelUnload};
use hangar_tests::{
    background::Background,
    failpoints::{Blocked, Failpoints},
    scripted::Script,
    server::NEVER,
};

use super::*;

#[hangar_tests::test]
async fn a_deleted_model_is_gone_and_another_of_its_id_is_another() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let first = server.create("m").await?;
    server.delete("m", false).await?;
    let gone = server.get("m").await;
    refusal(gone, Code::NotFound, ErrorReason::ModelNotFound);
    let again = server.delete("m", false).await;
    refusal(again, Code::NotFound, ErrorReason::ModelNotFound);
    let second = server.create("m").await?;
    assert_eq!((second.version, &second.spec), (1, &first.spec));
    assert_ne!((&second.uid, &second.etag), (&first.uid, &first.etag));
    Ok(())
}

#[hangar_tests::test]
async fn an_etag_that_is_given_has_to_be_the_current_one() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let created = server.create("m").await?;
    let (updated, _) = server.update(renamed(&created, "new")).await?;
    let mut request = DeleteModelRequest {
        model_id: "m".to_owned(),
        etag: created.etag,
        ..DeleteModelRequest::default()
    };
    for force in [false, true] {
        request.force = force;
        let refused = server.catalog.delete_model(request.clone()).await;
        let refused = refusal(refused, Code::Aborted, ErrorReason::EtagMismatch);
        assert_eq!(refused.details().metadata["etag"], updated.etag);
    }
    request.etag = updated.etag;
    let deleted = server.catalog.delete_model(request).await?.into_inner();
    assert_eq!(deleted.unload, None);
    Ok(())
}

#[hangar_tests::test]
async fn force_deletes_a_model_with_its_aliases() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    server
        .catalog
        .create_model(aliased("m", &["b", "a"]))
        .await?;
    let refused = server.delete("m", false).await;
    let code = Code::FailedPrecondition;
    let refused = refusal(refused, code, ErrorReason::ModelAliased);
    assert_eq!(refused.details().metadata["aliases"], "a,b");
    let by_alias = server.delete("a", true).await;
    refusal(by_alias, Code::NotFound, ErrorReason::ModelNotFound);
    server.delete("m", true).await?;
    server.create("a").await?;
    Ok(())
}

#[hangar_tests::test]
async fn wrong_deletes_are_refused_with_a_reason() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let request = DeleteModelRequest {
        model_id: "a b".to_owned(),
        request_id: "x".repeat(129),
        ..DeleteModelRequest::default()
    };
    let refused = server.catalog.delete_model(request).await;
    assert_eq!(wrong_fields(refused), ["request_id", "model_id"]);
    Ok(())
}

/// A deletion that is under way: the worker of its model goes, and nobody hears yet that it has gone.
struct Deleting {
    server: TestServer,
    entry: Model,
    held: Blocked,
    deletion: Background<Result<Option<ModelUnload>, Error>>,
    _failpoints: Failpoints,
}

async fn deleting() -> Result<Deleting> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&Script::default())
        .failpoints(&failpoints)
        .time("--kill-timeout", NEVER)
        .start()
        .await?;
    server.ready().await?;
    let entry = server.client.get_model("m").send().await?;
    let held = failpoints.hold("worker-reaped.m")?;
    let deletion = server.client.delete_model("m").etag(&entry.etag).force();
    let deletion = Background::start(deletion.send());
    held.reached().await?;
    Ok(Deleting {
        server,
        entry,
        held,
        deletion,
        _failpoints: failpoints,
    })
}

#[hangar_tests::test]
async fn a_change_does_not_refuse_a_deletion_that_has_begun() -> Result<()> {
    let deleting = deleting().await?;
    let client = &deleting.server.client;
    let update = client.update_model("m").etag(&deleting.entry.etag);
    let update = Background::start(update.display_name("new").send());
    // It has come by then, or comes later, which is the same.
    client.get_model("m").send().await?;
    drop(deleting.held);
    assert!(deleting.deletion.end().await??.is_some());
    let late = update.end().await?;
    refusals::refusal(late, Code::NotFound, ErrorReason::ModelNotFound);
    let gone = client.get_model("m").send().await;
    refusals::refusal(gone, Code::NotFound, ErrorReason::ModelNotFound);
    Ok(())
}

#[hangar_tests::test]
async fn a_load_that_comes_during_a_deletion_is_that_of_another_model() -> Result<()> {
    let deleting = deleting().await?;
    let load = Background::start(deleting.server.load_m().wait());
    deleting.server.client.get_model("m").send().await?;
    drop(deleting.held);
    assert!(deleting.deletion.end().await??.is_some());
    let status = load.end().await??.status.context("a status")?;
    assert_eq!(status.state(), Ready);
    let entry = deleting.server.client.get_model("m").send().await?;
    assert_ne!(entry.uid, deleting.entry.uid);
    Ok(())
}
