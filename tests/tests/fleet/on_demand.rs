//! Models that a request loads.

use std::time::Duration;

use anyhow::Result;
use futures::future::try_join_all;
use hangar_client::{
    convert::to_proto_duration,
    v1::{ErrorReason, ModelSpec, ModelState, SuspendReason},
};
use hangar_tests::{
    fixtures::Fixtures, hangar::Options, house::House, processes, refusals::refusal,
};
use tonic::Code;

use crate::state;

fn on_demand(spec: ModelSpec) -> ModelSpec {
    ModelSpec {
        load_on_demand: true,
        ..spec
    }
}

/// A server with the real model "m", which is loaded on demand and is not loaded.
async fn house() -> Result<House> {
    let house = House::real().await?;
    house.load("m", on_demand(house.llama_spec()?)).await?;
    house.client.unload("m").send().await?;
    Ok(house)
}

async fn loads(house: &House) -> Result<usize> {
    Ok(house.stubs.info("m").await?.recent_loads.len())
}

#[tokio::test]
async fn a_request_loads_and_is_answered() -> Result<()> {
    let house = house().await?;
    let answer = house.answer("m").await?;
    assert_eq!(state(&house, "m").await?, ModelState::Ready);
    assert_eq!(house.answer("m").await?, answer);
    assert_eq!(loads(&house).await?, 2);
    assert!(
        !house.stubs.is_desired("m").await?,
        "a request asks for nothing to stay"
    );
    Ok(())
}

#[tokio::test]
async fn tokens_load_too() -> Result<()> {
    let house = house().await?;
    let tokens = house.client.tokenize("m", "Hello").send().await?;
    house.client.unload("m").send().await?;
    assert_eq!(house.client.detokenize("m", tokens).send().await?, "Hello");
    assert_eq!(loads(&house).await?, 3);
    Ok(())
}

#[tokio::test]
async fn requests_at_the_same_time_share_one_load() -> Result<()> {
    let house = house().await?;
    let answers = try_join_all((0..8).map(|_| house.answer("m"))).await?;
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(loads(&house).await?, 2);
    assert_eq!(processes::children(house.hangar.pid())?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn the_first_request_after_a_start_loads() -> Result<()> {
    let data = tempfile::tempdir()?;
    let fixtures = Fixtures::new()?;
    let options = Options::new(&fixtures).data_in(data.path());
    let house = House::open(fixtures, options.clone()).await?;
    house.load("m", on_demand(house.llama_spec()?)).await?;
    let answer = house.answer("m").await?;
    house.client.unload("m").send().await?;
    let house = house.after_a_kill(options).await?;
    assert_eq!(state(&house, "m").await?, ModelState::Unloaded);
    let answers = try_join_all((0..4).map(|_| house.answer("m"))).await?;
    assert_eq!(answers, vec![answer; 4]);
    assert_eq!(loads(&house).await?, 2);
    Ok(())
}

#[tokio::test]
async fn what_went_because_it_was_idle_comes_back() -> Result<()> {
    let house = House::real().await?;
    let spec = ModelSpec {
        idle_timeout: Some(to_proto_duration(Duration::from_millis(200))),
        ..on_demand(house.llama_spec()?)
    };
    let mut feed = house.feed().await?;
    house.load("m", spec).await?;
    feed.until("m", ModelState::Ready).await?;
    for _ in 0..3 {
        let status = feed.until("m", ModelState::Unloaded).await?;
        assert_eq!(status.suspend_reason(), SuspendReason::Idle);
        assert!(house.stubs.is_desired("m").await?);
        house.answer("m").await?;
        let status = feed.until("m", ModelState::Ready).await?;
        assert_eq!(status.suspend_reason(), SuspendReason::Unspecified);
    }
    Ok(())
}

#[tokio::test]
async fn a_broken_model_is_not_tried_by_every_request() -> Result<()> {
    let house = House::real().await?;
    let spec = on_demand(house.broken_spec()?);
    let loading = house.client.load("m").spec(spec).send().await?;
    assert!(!loading.already_loaded);
    let mut feed = house.feed().await?;
    feed.until("m", ModelState::Failed).await?;
    house.client.unload("m").send().await?;
    let tried = loads(&house).await?;
    let refused = house.answer("m").await;
    refusal(
        refused,
        Code::FailedPrecondition,
        ErrorReason::ModelUnusable,
    );
    let failure = house
        .stubs
        .info("m")
        .await?
        .status
        .unwrap_or_default()
        .message;
    for _ in 0..3 {
        let refused = house.answer("m").await;
        let refused = refusal(
            refused,
            Code::FailedPrecondition,
            ErrorReason::ModelNotLoaded,
        );
        assert!(refused.message().contains(&failure), "{refused:?}");
    }
    assert_eq!(loads(&house).await?, tried + 1);
    Ok(())
}

#[tokio::test]
async fn another_model_is_not_loaded_by_a_request() -> Result<()> {
    let house = House::real().await?;
    house.llama("m").await?;
    house.client.unload("m").send().await?;
    let refused = house.answer("m").await;
    refusal(
        refused,
        Code::FailedPrecondition,
        ErrorReason::ModelNotLoaded,
    );
    assert!(processes::children(house.hangar.pid())?.is_empty());
    Ok(())
}
