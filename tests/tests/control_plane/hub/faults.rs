//! Hubs that do not give what they announced.

use anyhow::Result;
use hangar_client::v1::{ErrorReason, ModelState::Ready};
use hangar_tests::{
    hub::{Fault, hub_spec},
    refusals::refusal,
};
use tonic::Code;

use super::{HubServer, REPOSITORY, WEIGHTS, parts, says};

/// Loads with one attempt, which fails as HUB_UNAVAILABLE, and then again, which succeeds.
async fn fails_once(server: &HubServer, words: &str) -> Result<()> {
    let spec = hub_spec(REPOSITORY, &[], 1);
    let load = server.client.load("m").spec(spec).wait().await;
    let refused = refusal(load, Code::Unavailable, ErrorReason::HubUnavailable);
    assert!(refused.message().contains(words), "{refused}");
    server.client.load("m").wait().await?;
    assert!(!says(&server.client, "m").await?.is_empty());
    assert!(parts(&server.cache()).is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn contents_with_another_hash_are_removed_and_downloaded_again() -> Result<()> {
    let server = HubServer::new().await?;
    server.hub.fault(WEIGHTS, Fault::Corrupt);
    fails_once(&server, "SHA-256").await?;
    let from: Vec<_> = server
        .hub
        .requests_for(WEIGHTS)
        .iter()
        .map(|r| r.from)
        .collect();
    assert_eq!(from, [0, 0]);
    Ok(())
}

#[hangar_tests::test]
async fn contents_of_another_size_are_removed_and_downloaded_again() -> Result<()> {
    for file in [WEIGHTS, "config.json"] {
        let server = HubServer::new().await?;
        server.hub.fault(file, Fault::Longer(7));
        fails_once(&server, "another number").await?;
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_hub_that_is_busy_is_asked_again() -> Result<()> {
    for status in [429, 500, 503] {
        let server = HubServer::new().await?;
        server.hub.fault(WEIGHTS, Fault::Status(status));
        fails_once(&server, &status.to_string()).await?;
        let server = HubServer::new().await?;
        server.hub.refuse_list(status);
        let mut transitions = server.follow("m").await?;
        server
            .client
            .load("m")
            .spec(hub_spec(REPOSITORY, &[], 2))
            .send()
            .await?;
        assert_eq!(transitions.until(Ready).await?.attempt, 2);
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_hub_that_ignores_the_range_gives_a_whole_file() -> Result<()> {
    let server = HubServer::new().await?;
    server
        .hub
        .fault(WEIGHTS, Fault::Break(server.weights()? / 2));
    server.hub.fault(WEIGHTS, Fault::Whole);
    server
        .client
        .load("m")
        .spec(hub_spec(REPOSITORY, &[], 1))
        .wait()
        .await?;
    let requests = server.hub.requests_for(WEIGHTS);
    assert_eq!((requests.len(), requests[1].served), (2, server.weights()?));
    assert!(!says(&server.client, "m").await?.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn a_hub_that_is_not_there_is_unavailable() -> Result<()> {
    let HubServer { server, hub, .. } = HubServer::new().await?;
    drop(hub);
    let load = server
        .client
        .load("m")
        .spec(hub_spec(REPOSITORY, &[], 1))
        .wait()
        .await;
    let refused = refusal(load, Code::Unavailable, ErrorReason::HubUnavailable);
    assert!(refused.message().contains("--hub-endpoint"), "{refused}");
    assert!(refused.details().retry_after.is_some());
    Ok(())
}
