//! A task that the server cannot do without and that no longer turns shows in liveness, and nowhere else; one of a model
//! fails that model.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    Client,
    v1::{
        ErrorReason,
        ModelState::{Draining, Failed, Ready, Starting},
        SuspendReason::Evicted,
    },
};
use hangar_tests::{
    background::Background,
    failpoints::Failpoints,
    http, processes,
    refusals::refusal,
    scripted::{LoadScript, Script},
    server::{DEADLINE, NEVER, TestServer, TestServerBuilder, spec},
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

/// A server whose drivers are never taken for stuck, with the models `m`, READY, and `n`.
async fn with_a_neighbour(options: TestServerBuilder) -> Result<TestServer> {
    let server = options
        .time("--liveness-timeout", NEVER)
        .argument("--memory-limit")
        .argument("200MiB")
        .start()
        .await?;
    server.ready().await?;
    let neighbour = server.fixtures.scripted("n", &Script::default())?;
    let neighbour = spec(&neighbour);
    server.client.load("n").spec(neighbour).wait().await?;
    Ok(server)
}

/// What is asked of a model.
async fn use_in_every_way(client: &Client, id: &str) -> Result<()> {
    client.load(id).force_reload().wait().await?;
    let etag = client.get_model(id).send().await?.etag;
    let update = client.update_model(id).etag(etag).display_name("new");
    update.send().await?;
    client.unload(id).send().await?;
    client.load(id).wait().await?;
    client.delete_model(id).force().send().await?;
    Ok(())
}

#[rstest]
#[case::a_load("load")]
#[case::an_unload("unload")]
#[case::a_deletion("delete")]
#[case::a_switch("switch")]
#[hangar_tests::test]
async fn what_waits_for_a_driver_that_hangs_holds_up_no_other_model(
    #[case] call: &'static str,
) -> Result<()> {
    let failpoints = Failpoints::new()?;
    let options = TestServer::scripted()
        .script(&Script::default())
        .failpoints(&failpoints);
    let server = with_a_neighbour(options).await?;
    let blocked = failpoints.block("driver.m")?;
    blocked.reached().await?;
    let client = server.client.clone();
    let call = Background::start(async move {
        match call {
            "load" => client.load("m").wait().await.map(drop),
            "unload" => client.unload("m").send().await.map(drop),
            "delete" => client.delete_model("m").force().send().await.map(drop),
            _ => client.switch("alias", "m").wait().await.map(drop),
        }
    });
    // It is under way by then, or comes meanwhile.
    server.client.get_model("m").send().await?;
    timeout(DEADLINE, use_in_every_way(&server.client, "n")).await??;
    drop(blocked);
    call.end().await??;
    Ok(())
}

#[hangar_tests::test]
async fn who_waits_for_a_driver_is_told_when_it_is_taken_for_stuck() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&Script::default())
        .failpoints(&failpoints)
        .time("--liveness-timeout", LIVENESS_TIMEOUT)
        .start()
        .await?;
    server.ready().await?;
    let mut transitions = server.follow("m").await?;
    let blocked = failpoints.block("driver.m")?;
    blocked.reached().await?;
    let client = &server.client;
    let (load, unload, delete) = tokio::join!(
        client.load("m").wait(),
        client.unload("m").send(),
        client.delete_model("m").force().send(),
    );
    refusal(load, Code::Internal, ErrorReason::Internal);
    refusal(unload, Code::Internal, ErrorReason::Internal);
    refusal(delete, Code::Internal, ErrorReason::Internal);
    drop(blocked);
    // What was ordered meanwhile is done in the order in which it came to the driver, which may end with a load.
    transitions.next().await?;
    client.load("m").wait().await?;
    client.delete_model("m").force().send().await?;
    Ok(())
}

/// Needs and takes as much as a tenth of the memory of [`with_a_neighbour`] for each of `tenths`.
fn needy(tenths: u64) -> Script {
    let bytes = tenths * (20 << 20);
    Script {
        need_host_bytes: bytes,
        load: LoadScript {
            memory_bytes: bytes,
            ..LoadScript::default()
        },
        ..Script::default()
    }
}

#[hangar_tests::test]
async fn an_eviction_that_meets_a_driver_that_hangs_holds_up_no_other_admission() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let options = TestServer::scripted()
        .script(&needy(5))
        .failpoints(&failpoints);
    let server = with_a_neighbour(options).await?;
    let blocked = failpoints.block("driver.m")?;
    blocked.reached().await?;
    let large = server.fixtures.scripted("large", &needy(7))?;
    let mut transitions = server.follow("large").await?;
    let large = server.client.load("large").spec(spec(&large)).wait();
    let large = Background::start(large);
    transitions.until(Starting).await?;
    // Its admission has begun by then, or comes after this one.
    let small = server.fixtures.scripted("small", &needy(1))?;
    let small = server.client.load("small").spec(spec(&small)).wait();
    timeout(DEADLINE, small).await??;
    assert_eq!(
        server
            .stubs
            .info("large")
            .await?
            .status
            .context("a status")?
            .state(),
        Starting
    );
    drop(blocked);
    large.end().await??;
    Ok(())
}

/// The one that was used least recently hangs.
#[hangar_tests::test]
async fn memory_pressure_passes_by_a_driver_that_hangs() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&needy(4))
        .failpoints(&failpoints)
        .argument("--memory-limit")
        .argument("200MiB")
        .argument("--memory-high-watermark")
        .argument("0.5")
        .time("--liveness-timeout", NEVER)
        .start()
        .await?;
    server.ready().await?;
    let blocked = failpoints.block("driver.m")?;
    blocked.reached().await?;
    let other = server.fixtures.scripted("n", &needy(2))?;
    let mut transitions = server.follow("n").await?;
    server.client.load("n").spec(spec(&other)).wait().await?;
    let gone = transitions.until(Draining).await?;
    assert_eq!(gone.suspend_reason(), Evicted);
    let status = server.info().await?.status.context("a status")?;
    assert_eq!(status.state(), Ready);
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
