//! Loads of what was downloaded before.

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, ModelSpec, model_source::Source};
use hangar_tests::{
    hub::hub_spec,
    refusals::refusal,
    server::{TestServer, TestServerBuilder},
};
use tonic::Code;

use super::{HubServer, REPOSITORY, WEIGHTS, says};

fn at(revision: &str) -> ModelSpec {
    let mut spec = hub_spec(REPOSITORY, &[], 1);
    let source = spec
        .source
        .as_mut()
        .and_then(|source| source.source.as_mut());
    if let Some(Source::HuggingFace(hub)) = source {
        revision.clone_into(&mut hub.revision);
    }
    spec
}

#[hangar_tests::test]
async fn an_offline_server_uses_the_cache_and_nothing_else() -> Result<()> {
    let cache = tempfile::tempdir()?;
    let here =
        |options: TestServerBuilder| options.argument("--hub-cache-dir").argument(cache.path());
    let server = HubServer::with(here).await?;
    server.client.load("m").spec(at("main")).wait().await?;
    let answer = says(&server.client, "m").await?;
    let asked = server.hub.requests().len();
    let HubServer { server, hub, .. } = server;
    let options = TestServer::real().fixtures(&server.fixtures).hub(&hub);
    drop(server);
    let options = here(options.argument("--hub-offline"));
    let hangar = options.start().await?;
    let client = hangar.connect().await?;
    client.load("m").spec(at("main")).wait().await?;
    assert_eq!(says(&client, "m").await?, answer);
    for spec in [at("other"), hub_spec("tiny/unknown", &[], 1)] {
        let load = client.load("x").force_reload().spec(spec).wait().await;
        let refused = refusal(load, Code::Unavailable, ErrorReason::HubUnavailable);
        assert!(refused.message().contains("--hub-offline"), "{refused}");
    }
    assert_eq!(hub.requests().len(), asked);
    Ok(())
}

#[hangar_tests::test]
async fn a_complete_download_is_loaded_while_the_hub_is_down() -> Result<()> {
    let server = HubServer::new().await?;
    server.client.load("m").spec(at("main")).wait().await?;
    server.client.unload("m").send().await?;
    let HubServer {
        server,
        hub,
        commit,
    } = server;
    let url = hub.url();
    drop(hub);
    server.client.load("m").wait().await?;
    let info = server.client.info().model("m").send().await?.models;
    let metadata = info.into_iter().next().and_then(|model| model.metadata);
    assert_eq!(metadata.context("metadata")?.resolved_revision, commit);
    let load = server
        .client
        .load("x")
        .spec(hub_spec("tiny/other", &[], 1))
        .wait()
        .await;
    let refused = refusal(load, Code::Unavailable, ErrorReason::HubUnavailable);
    assert!(refused.message().contains(&url), "{refused}");
    Ok(())
}

#[hangar_tests::test]
async fn a_commit_that_is_complete_is_not_asked_for_again() -> Result<()> {
    let server = HubServer::new().await?;
    server
        .client
        .load("m")
        .spec(at(&server.commit))
        .wait()
        .await?;
    let asked = server.hub.requests().len();
    server.client.load("m").force_reload().wait().await?;
    assert_eq!(server.hub.requests().len(), asked);
    Ok(())
}

#[hangar_tests::test]
async fn a_branch_is_followed_and_only_what_changed_is_downloaded() -> Result<()> {
    let server = HubServer::new().await?;
    server.client.load("m").spec(at("main")).wait().await?;
    let config = std::fs::read_to_string(server.fixtures.llama()?.join("config.json"))?;
    let commit = server
        .hub
        .add_file(REPOSITORY, "config.json", format!("{config} ").into());
    assert_ne!(commit, server.commit);
    server.client.load("m").force_reload().wait().await?;
    let metadata = server.model().await?.metadata.context("metadata")?;
    assert_eq!(metadata.resolved_revision, commit);
    assert_eq!(server.hub.requests_for("config.json").len(), 2);
    assert_eq!(server.hub.requests_for(WEIGHTS).len(), 1);
    Ok(())
}
