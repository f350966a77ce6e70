//! A task of the server that it cannot do without panics: the server stops with a word and a status of its own.

use std::{fs, process::ExitStatus};

use anyhow::{Context, Result};
use hangar_client::{
    Client,
    v1::{
        ErrorReason,
        ModelState::{Loading, Ready},
        SwitchModelRequest, SwitchOutcome, SwitchStrategy, WatchStatusRequest, WatchStatusResponse,
        watch_status_response::Event,
    },
};
use hangar_tests::{
    background::Background,
    failpoints::Failpoints,
    fixtures::Fixtures,
    processes,
    refusals::refusal,
    scripted::{Gate, Script},
    server::{DEADLINE, EndedAtStart, TestServer, binary},
    stubs::switch,
};
use rstest::rstest;
use tokio::time::timeout;
use tonic::{Code, Streaming};
use tonic_types::StatusExt;

use super::{chunk, end};

/// Status of a server that ended because of a fault of its own.
const FAULT: i32 = 70;

/// Makes sure that the server ends because the task `name` panicked.
async fn ends_by(server: TestServer, name: &str) -> Result<()> {
    let (status, log) = server.ended_with_log(DEADLINE).await?;
    ended_by(status, &log, name);
    Ok(())
}

fn ended_by(status: ExitStatus, log: &str, name: &str) {
    assert_eq!(status.code(), Some(FAULT), "{log}");
    assert!(log.contains(&format!("the task {name} panicked")), "{log}");
}

#[rstest]
#[hangar_tests::test]
async fn a_critical_task_that_panics_stops_the_server(
    #[values(
        "main-port",
        "ops-port",
        "memory-pressure",
        "session-expiry",
        "history",
        "liveness",
        "reaper",
        "driver",
        "worker-run",
        "worker-owner"
    )]
    task: &str,
) -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&Script::default())
        .failpoints(&failpoints)
        .start()
        .await?;
    let worker = server.ready().await?.worker_pid;
    failpoints.panic(task)?;
    ends_by(server, task).await?;
    processes::ended(worker, DEADLINE).await
}

#[hangar_tests::test]
async fn a_panic_is_logged_with_a_backtrace_where_the_environment_asks_for_one() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&Script::default())
        .failpoints(&failpoints)
        .env("RUST_BACKTRACE", "1")
        .start()
        .await?;
    failpoints.panic("memory-pressure")?;
    let (_, log) = server.ended_with_log(DEADLINE).await?;
    let panic = log.lines().find(|line| line.contains("a thread panicked"));
    let panic = panic.context("the panic is not logged")?;
    assert!(panic.contains("backtrace"), "{panic}");
    Ok(())
}

#[rstest]
#[case("catalog-write")]
#[case("hangar-spawner")]
#[hangar_tests::test]
async fn a_thread_that_panics_at_its_work_stops_the_server(#[case] thread: &str) -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&Script::default())
        .failpoints(&failpoints)
        .start()
        .await?;
    let worker = server.ready().await?.worker_pid;
    failpoints.panic(thread)?;
    // It needs both. Whether it is answered is of no importance.
    let load = server.client.load("n").spec(server.spec()).wait();
    let _load = Background::start(load);
    ends_by(server, thread).await?;
    processes::ended(worker, DEADLINE).await
}

#[rstest]
#[case("catalog-read-0")]
#[case("hangar-devices")]
#[case("liveness-clock")]
#[hangar_tests::test]
async fn a_thread_that_panics_at_its_start_stops_the_server(#[case] thread: &str) -> Result<()> {
    let failpoints = Failpoints::new()?;
    failpoints.panic(thread)?;
    let fixtures = Fixtures::new()?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .failpoints(&failpoints);
    match options.start().await {
        Ok(server) => ends_by(server, thread).await?,
        // It may end before it serves. Its log is in the error.
        Err(error) => {
            let EndedAtStart(status) = error.downcast_ref().context(error.to_string())?;
            ended_by(*status, &format!("{error:?}"), thread);
        }
    }
    Ok(())
}

#[hangar_tests::test]
async fn desired_state_survives_a_panic() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let data = tempfile::tempdir()?;
    let fixtures = Fixtures::new()?;
    let directory = fixtures.scripted("m", &Script::default())?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .data_in(data.path());
    let server = options.clone().failpoints(&failpoints).start().await?;
    let client = server.connect().await?;
    let spec = hangar_tests::server::spec(&directory);
    client.load("m").spec(spec).wait().await?;
    failpoints.panic("memory-pressure")?;
    assert_eq!(server.ended(DEADLINE).await?.code(), Some(FAULT));

    let server = options.start().await?;
    server.follow("m").await?.until(Ready).await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_switch_whose_recovery_panics_goes_back_at_the_next_start() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let data = tempfile::tempdir()?;
    let fixtures = Fixtures::new()?;
    let old = fixtures.scripted("m", &Script::default())?;
    let new = fixtures.scripted("n", &Script::gated())?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .data_in(data.path());
    let server = options.clone().failpoints(&failpoints).start().await?;
    let client = server.connect().await?;
    let spec = hangar_tests::server::spec(&old);
    client.load("m").spec(spec).wait().await?;
    client.switch("chat", "m").wait().await?;
    let _gate = Gate::new(&new, "load")?;
    let request = SwitchModelRequest {
        spec: Some(hangar_tests::server::spec(&new)),
        ..switch("chat", "n", SwitchStrategy::LoadFirst)
    };
    let mut transitions = server.follow("n").await?;
    let begun = server.stubs.switch(request).await?;
    transitions.until(Loading).await?;
    failpoints.panic("switch-recovery")?;
    failpoints.panic("switch")?;
    ends_by(server, "switch-recovery").await?;

    let server = options.start().await?;
    server.follow("m").await?.until(Ready).await?;
    assert_eq!(server.stubs.info("m").await?.aliases, ["chat"]);
    let switches = server.stubs.switches().await?;
    let ends: Vec<_> = switches
        .iter()
        .map(|switch| (switch.switch_id.as_str(), switch.outcome()))
        .collect();
    let gone_back = SwitchOutcome::RolledBack;
    assert_eq!(ends, [(begun.switch_id.as_str(), gone_back)]);
    Ok(())
}

#[hangar_tests::test]
async fn a_read_of_the_catalog_that_panics_fails_its_call_only() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&Script::default())
        .failpoints(&failpoints)
        .start()
        .await?;
    server.ready().await?;
    failpoints.panic("catalog-read")?;
    let read = server.client.get_model("m").send().await;
    refusal(read, Code::Internal, ErrorReason::Internal);
    server.client.get_model("m").send().await?;
    assert!(server.client.generate("m").prompt("x").text().await.is_ok());
    Ok(())
}

#[hangar_tests::test]
async fn a_request_whose_task_panics_gets_an_error_and_the_next_one_is_answered() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&Script::gated())
        .failpoints(&failpoints)
        .start()
        .await?;
    server.ready().await?;
    let gate = server.gate("token")?;
    let mut running = server.client.generate("m").prompt("x").stream().await?;
    gate.step(1)?;
    chunk(&mut running).await?;
    failpoints.panic("request")?;
    refusal(
        end(&mut running).await,
        Code::Internal,
        ErrorReason::Internal,
    );
    gate.open()?;
    server.client.generate("m").prompt("x").text().await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_stream_that_panics_gets_an_error_and_the_next_one_goes_on() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&Script::default())
        .failpoints(&failpoints)
        .start()
        .await?;
    let mut service = server.client.model_service();
    let request = WatchStatusRequest::default();
    let mut watch = service.watch_status(request.clone()).await?.into_inner();
    watch.message().await?.context("no snapshot")?;
    failpoints.panic("watch-stream")?;
    let end = async {
        while watch.message().await?.is_some() {}
        Ok(())
    };
    let end: Result<(), tonic::Status> = timeout(DEADLINE, end).await?;
    let Err(status) = end else {
        anyhow::bail!("the watch ended well")
    };
    assert_eq!(status.code(), Code::Internal, "{status:?}");
    let details = status.get_error_details();
    assert_eq!(
        details.error_info().context("no ErrorInfo")?.reason,
        "INTERNAL"
    );
    let mut watch = service.watch_status(request).await?.into_inner();
    watch.message().await?.context("no snapshot")?;
    Ok(())
}

/// A watch of all models that has got its snapshot.
async fn watch(client: &Client) -> Result<Streaming<WatchStatusResponse>> {
    let request = WatchStatusRequest::default();
    let mut watch = client
        .model_service()
        .watch_status(request)
        .await?
        .into_inner();
    timeout(DEADLINE, watch.message())
        .await??
        .context("no snapshot")?;
    Ok(watch)
}

/// Waits until the watch ends badly.
async fn breaks(watch: &mut Streaming<WatchStatusResponse>) {
    while let Ok(Some(_)) = watch.message().await {}
}

#[rstest]
#[case::of_a_connection("connection")]
#[case::of_a_stream("stream")]
#[hangar_tests::test]
async fn a_panic_below_the_services_ends_one_stream_and_the_others_go_on(
    #[case] point: &str,
) -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&Script::default())
        .failpoints(&failpoints)
        .start()
        .await?;
    let clients = [server.client.clone(), server.connect().await?];
    let mut one = watch(&clients[0]).await?;
    let mut two = watch(&clients[1]).await?;

    failpoints.panic(point)?;
    let broken = async {
        tokio::select! {
            () = breaks(&mut one) => 0,
            () = breaks(&mut two) => 1,
        }
    };
    let broken = timeout(DEADLINE, broken).await?;
    let mut left = if broken == 0 { two } else { one };
    clients[broken].load("m").spec(server.spec()).wait().await?;
    let is_ready = |response: &WatchStatusResponse| match &response.event {
        Some(Event::Changed(changed)) => changed
            .status
            .as_ref()
            .is_some_and(|status| status.state() == Ready),
        _ => false,
    };
    let goes_on = async {
        while !is_ready(&left.message().await?.context("the watch ended")?) {}
        anyhow::Ok(())
    };
    timeout(DEADLINE, goes_on).await??;
    assert!(server.terminate().await?.success());
    Ok(())
}

#[hangar_tests::test]
fn the_released_server_has_no_failpoints() -> Result<()> {
    let has = |name: &str| -> Result<bool> {
        let needle = b"HANGAR_FAILPOINTS";
        let bytes = fs::read(binary(name)?)?;
        Ok(bytes.windows(needle.len()).any(|window| window == needle))
    };
    assert!(has("hangar-failpoints")?);
    assert!(!has("hangar")?);
    Ok(())
}
