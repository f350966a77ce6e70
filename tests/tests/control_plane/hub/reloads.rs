//! Reloads of what comes from the hub: the old worker serves until the new files are there and can be loaded.

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, ModelState::Ready};
use hangar_tests::{
    background::Background,
    hub::{Fault, hub_spec},
    processes,
    refusals::refusal,
    server::DEADLINE,
};
use tonic::Code;

use super::{HubServer, REPOSITORY, says};

const CONFIG: &str = "config.json";

/// A model that is READY, of the newest commit of its repository.
async fn ready() -> Result<HubServer> {
    let server = HubServer::new().await?;
    let spec = hub_spec(REPOSITORY, &[], 1);
    server.client.load("m").spec(spec).wait().await?;
    Ok(server)
}

async fn revision(server: &HubServer) -> Result<String> {
    let metadata = server.model().await?.metadata.context("metadata")?;
    Ok(metadata.resolved_revision)
}

#[hangar_tests::test]
async fn a_new_commit_that_cannot_be_loaded_is_refused_and_the_model_serves_on() -> Result<()> {
    let server = ready().await?;
    let (before, answer) = (server.status().await?, says(&server.client, "m").await?);
    server.hub.add_file(REPOSITORY, CONFIG, b"{".to_vec());
    let refused = server.client.load("m").force_reload().wait().await;
    let refused = refusal(
        refused,
        Code::FailedPrecondition,
        ErrorReason::ModelUnusable,
    );
    for words in ["config.json", "serves on"] {
        assert!(refused.message().contains(words), "{refused}");
    }
    server.hub.refuse_list(404);
    let refused = server.client.load("m").force_reload().wait().await;
    assert!(refused.is_err(), "{refused:?}");
    let after = server.status().await?;
    assert_eq!(
        (after.generation, after.worker_pid),
        (before.generation, before.worker_pid)
    );
    assert_eq!(revision(&server).await?, server.commit);
    assert_eq!(says(&server.client, "m").await?, answer);
    Ok(())
}

#[hangar_tests::test]
async fn the_old_worker_serves_while_the_new_files_are_downloaded() -> Result<()> {
    let server = ready().await?;
    let before = server.status().await?;
    let config = std::fs::read_to_string(server.fixtures.llama()?.join(CONFIG))?;
    let changed = format!("{config} ").into_bytes();
    let commit = server.hub.add_file(REPOSITORY, CONFIG, changed);
    server.hub.fault(CONFIG, Fault::Hold(vec![1]));
    let reload = Background::start(server.client.load("m").force_reload().wait());
    processes::eventually("the download", DEADLINE, || {
        (server.hub.requests_for(CONFIG).len() == 2).then_some(())
    })
    .await?;
    let status = server.status().await?;
    assert_eq!(
        (status.state(), status.worker_pid),
        (Ready, before.worker_pid)
    );
    says(&server.client, "m").await?;
    server.hub.release();
    reload.end().await??;
    assert_eq!(revision(&server).await?, commit);
    assert_ne!(server.status().await?.worker_pid, before.worker_pid);
    // Downloaded once, for the inspection.
    assert_eq!(server.hub.requests_for(CONFIG).len(), 2);
    Ok(())
}
