//! Models that a request loads.

use std::time::Duration;

use anyhow::Result;
use futures::future::try_join_all;
use hangar_client::{
    convert::to_proto_duration,
    v1::{ErrorReason, ModelSpec, ModelState, SuspendReason},
};
use hangar_tests::{fixtures::Fixtures, processes, refusals::refusal, server::TestServer};
use tonic::Code;

use super::state;

fn on_demand(spec: ModelSpec) -> ModelSpec {
    ModelSpec {
        load_on_demand: true,
        ..spec
    }
}

/// A server with the real model "m", which is loaded on demand and is not loaded.
async fn server() -> Result<TestServer> {
    let server = TestServer::real().start().await?;
    server.load("m", on_demand(server.llama_spec()?)).await?;
    server.client.unload("m").send().await?;
    Ok(server)
}

async fn loads(server: &TestServer) -> Result<usize> {
    Ok(server.stubs.info("m").await?.recent_loads.len())
}

#[hangar_tests::test]
async fn a_request_loads_its_model_and_is_answered() -> Result<()> {
    let server = server().await?;
    let answer = server.answer("m").await?;
    assert_eq!(state(&server, "m").await?, ModelState::Ready);
    assert_eq!(server.answer("m").await?, answer);
    assert_eq!(loads(&server).await?, 2);
    assert!(
        !server.stubs.is_desired("m").await?,
        "a request asks for nothing to stay"
    );
    Ok(())
}

#[hangar_tests::test]
async fn tokenize_and_detokenize_load_their_model_too() -> Result<()> {
    let server = server().await?;
    let tokens = server.client.tokenize("m", "Hello").send().await?;
    server.client.unload("m").send().await?;
    assert_eq!(server.client.detokenize("m", tokens).send().await?, "Hello");
    assert_eq!(loads(&server).await?, 3);
    Ok(())
}

#[hangar_tests::test]
async fn requests_at_the_same_time_share_one_load() -> Result<()> {
    let server = server().await?;
    let answers = try_join_all((0..8).map(|_| server.answer("m"))).await?;
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(loads(&server).await?, 2);
    assert_eq!(processes::children(server.pid())?.len(), 1);
    Ok(())
}

#[hangar_tests::test]
async fn the_first_request_after_a_start_loads() -> Result<()> {
    let data = tempfile::tempdir()?;
    let fixtures = Fixtures::new()?;
    let options = TestServer::real().fixtures(&fixtures).data_in(data.path());
    let server = options.start().await?;
    server.load("m", on_demand(server.llama_spec()?)).await?;
    let answer = server.answer("m").await?;
    server.client.unload("m").send().await?;
    let server = server.killed_and_started(&options).await?;
    assert_eq!(state(&server, "m").await?, ModelState::Unloaded);
    let answers = try_join_all((0..4).map(|_| server.answer("m"))).await?;
    assert_eq!(answers, vec![answer; 4]);
    assert_eq!(loads(&server).await?, 2);
    Ok(())
}

#[hangar_tests::test]
async fn a_model_unloaded_as_idle_is_loaded_by_the_next_request() -> Result<()> {
    let server = TestServer::real().start().await?;
    let spec = ModelSpec {
        idle_timeout: Some(to_proto_duration(Duration::from_millis(200))),
        ..on_demand(server.llama_spec()?)
    };
    let mut watch = server.watch().await?;
    server.load("m", spec).await?;
    watch.until("m", ModelState::Ready).await?;
    for _ in 0..3 {
        let status = watch.until("m", ModelState::Unloaded).await?;
        assert_eq!(status.suspend_reason(), SuspendReason::Idle);
        assert!(server.stubs.is_desired("m").await?);
        server.answer("m").await?;
        let status = watch.until("m", ModelState::Ready).await?;
        assert_eq!(status.suspend_reason(), SuspendReason::Unspecified);
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_broken_model_is_not_tried_by_every_request() -> Result<()> {
    let server = TestServer::real().start().await?;
    let spec = on_demand(server.broken_spec()?);
    let loading = server.client.load("m").spec(spec).send().await?;
    assert!(!loading.already_loaded);
    let mut watch = server.watch().await?;
    watch.until("m", ModelState::Failed).await?;
    server.client.unload("m").send().await?;
    let tried = loads(&server).await?;
    let refused = server.answer("m").await;
    refusal(
        refused,
        Code::FailedPrecondition,
        ErrorReason::ModelUnusable,
    );
    let failure = server
        .stubs
        .info("m")
        .await?
        .status
        .unwrap_or_default()
        .message;
    for _ in 0..3 {
        let refused = server.answer("m").await;
        let refused = refusal(
            refused,
            Code::FailedPrecondition,
            ErrorReason::ModelNotLoaded,
        );
        assert!(refused.message().contains(&failure), "{refused:?}");
    }
    assert_eq!(loads(&server).await?, tried + 1);
    Ok(())
}

#[hangar_tests::test]
async fn a_request_loads_no_model_without_load_on_demand() -> Result<()> {
    let server = TestServer::real().start().await?;
    server.llama("m").await?;
    server.client.unload("m").send().await?;
    let refused = server.answer("m").await;
    refusal(
        refused,
        Code::FailedPrecondition,
        ErrorReason::ModelNotLoaded,
    );
    assert!(processes::children(server.pid())?.is_empty());
    Ok(())
}
