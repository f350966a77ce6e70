//! Hubs that do not give what they announced.

use anyhow::Result;
use hangar_client::v1::{ErrorReason, ModelState::Ready};
use hangar_tests::{
    hub::{Fault, hub_spec},
    refusals::refusal,
};
use tonic::Code;

use crate::{House, REPOSITORY, WEIGHTS, parts, says};

/// Loads with one attempt, which fails as HUB_UNAVAILABLE, and then again, which succeeds.
async fn fails_once(house: &House, words: &str) -> Result<()> {
    let spec = hub_spec(REPOSITORY, &[], 1);
    let load = house.client.load("m").spec(spec).wait().await;
    let refused = refusal(load, Code::Unavailable, ErrorReason::HubUnavailable);
    assert!(refused.message().contains(words), "{refused}");
    house.client.load("m").wait().await?;
    assert!(!says(&house.client, "m").await?.is_empty());
    assert!(parts(&house.cache()).is_empty());
    Ok(())
}

#[tokio::test]
async fn contents_that_are_others_are_removed_and_downloaded_again() -> Result<()> {
    let house = House::new().await?;
    house.hub.fault(WEIGHTS, Fault::Corrupt);
    fails_once(&house, "SHA-256").await?;
    let from: Vec<_> = house
        .hub
        .requests_for(WEIGHTS)
        .iter()
        .map(|r| r.from)
        .collect();
    assert_eq!(from, [0, 0]);
    Ok(())
}

#[tokio::test]
async fn contents_of_another_size_are_removed_and_downloaded_again() -> Result<()> {
    for file in [WEIGHTS, "config.json"] {
        let house = House::new().await?;
        house.hub.fault(file, Fault::Longer(7));
        fails_once(&house, "another number").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_hub_that_is_busy_is_asked_again() -> Result<()> {
    for status in [429, 500, 503] {
        let house = House::new().await?;
        house.hub.fault(WEIGHTS, Fault::Status(status));
        fails_once(&house, &status.to_string()).await?;
        let house = House::new().await?;
        house.hub.refuse_list(status);
        let mut transitions = house.hangar.follow("m").await?;
        house
            .client
            .load("m")
            .spec(hub_spec(REPOSITORY, &[], 2))
            .send()
            .await?;
        assert_eq!(transitions.until(Ready).await?.attempt, 2);
    }
    Ok(())
}

#[tokio::test]
async fn a_hub_that_ignores_the_range_gives_a_whole_file() -> Result<()> {
    let house = House::new().await?;
    house.hub.fault(WEIGHTS, Fault::Break(house.weights()? / 2));
    house.hub.fault(WEIGHTS, Fault::Whole);
    house
        .client
        .load("m")
        .spec(hub_spec(REPOSITORY, &[], 1))
        .wait()
        .await?;
    let requests = house.hub.requests_for(WEIGHTS);
    assert_eq!((requests.len(), requests[1].served), (2, house.weights()?));
    assert!(!says(&house.client, "m").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_hub_that_is_not_there_is_unavailable() -> Result<()> {
    let house = House::new().await?;
    drop(house.hub);
    let load = house
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
