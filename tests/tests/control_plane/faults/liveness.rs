//! A task that the server cannot do without and that no longer turns shows in liveness, and nowhere else; one of a model
//! fails that model.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, ModelState::Failed};
use hangar_tests::{
    background::Background,
    failpoints::Failpoints,
    http, processes,
    refusals::refusal,
    scripted::Script,
    server::{DEADLINE, TestServer, TestServerBuilder, spec},
};
use rstest::rstest;
use tokio::time::timeout;
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest,
    health_check_response::ServingStatus::{self, NotServing, Serving},
    health_client::HealthClient,
};

use super::{chunk, end};

/// What a task may take for one turn.
pub(crate) const LIVENESS_TIMEOUT: Duration = Duration::from_secs(2);

#[rstest]
#[case::a_task("memory-pressure")]
#[case::another_task("session-expiry")]
#[case::a_thread("catalog-write")]
#[hangar_tests::test]
async fn a_task_that_blocks_ends_liveness_until_it_turns_again(#[case] point: &str) -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&Script::default())
        .failpoints(&failpoints)
        .time("--liveness-timeout", LIVENESS_TIMEOUT)
        .start()
        .await?;
    server.ready().await?;
    let mut liveness = HealthWatch::open(&server, "liveness").await?;
    liveness.until(Serving).await?;

    let blocked = failpoints.block(point)?;
    // Something to be written down, for the thread that writes.
    let write = server.client.load("n").spec(server.spec()).send();
    let _write = Background::start(write);
    liveness.until(NotServing).await?;
    let ops = server.ops_listen();
    assert_eq!(http::get(ops, "/livez").await?.status, 503);
    assert_eq!(http::get(ops, "/readyz").await?.status, 200);
    drop(blocked);
    liveness.until(Serving).await?;
    assert_eq!(http::get(ops, "/livez").await?.status, 200);
    Ok(())
}

#[rstest]
#[case::with_all_processors(TestServer::scripted())]
#[case::with_one_processor(TestServer::scripted().on_one_processor())]
#[hangar_tests::test]
async fn a_driver_that_blocks_fails_its_model_and_nothing_else(
    #[case] options: TestServerBuilder,
) -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = options
        .script(&Script::gated())
        .failpoints(&failpoints)
        .time("--liveness-timeout", LIVENESS_TIMEOUT)
        .start()
        .await?;
    let worker = server.ready().await?.worker_pid;
    let neighbour = server.fixtures.scripted("n", &Script::default())?;
    let neighbour = spec(&neighbour);
    server.client.load("n").spec(neighbour).wait().await?;
    let mut transitions = server.follow("m").await?;
    let gate = server.gate("token")?;
    let mut running = server.client.generate("m").prompt("x").stream().await?;
    gate.step(1)?;
    assert_eq!(chunk(&mut running).await?, "t0 ");

    let blocked = failpoints.block("driver.m")?;
    let ended = timeout(DEADLINE, end(&mut running)).await?;
    refusal(ended, Code::Internal, ErrorReason::Internal);
    processes::ended(worker, DEADLINE).await?;
    let late = server.client.generate("m").prompt("x").text().await;
    refusal(late, Code::Internal, ErrorReason::Internal);
    let livez = http::get(server.ops_listen(), "/livez").await?;
    assert_eq!(livez.status, 200);
    server.client.generate("n").prompt("x").text().await?;

    drop(blocked);
    let failed = transitions.until(Failed).await?;
    assert_eq!(failed.reason, "INTERNAL");
    gate.open()?;
    server.ready().await?;
    server.client.generate("m").prompt("x").text().await?;
    Ok(())
}

/// The health of one service, as it is watched.
pub(crate) struct HealthWatch(tonic::Streaming<tonic_health::pb::HealthCheckResponse>);

impl HealthWatch {
    pub(crate) async fn open(server: &TestServer, service: &str) -> Result<Self> {
        let channel = Endpoint::from_shared(server.url())?.connect().await?;
        let service = service.to_owned();
        let request = HealthCheckRequest { service };
        let watch = HealthClient::new(channel).watch(request).await?;
        Ok(Self(watch.into_inner()))
    }

    pub(crate) async fn until(&mut self, status: ServingStatus) -> Result<()> {
        let wait = async {
            loop {
                let reported = self.0.message().await?.context("the watch ended")?;
                if reported.status() == status {
                    return Ok(());
                }
            }
        };
        timeout(DEADLINE, wait).await?
    }
}
