//! A task of the server that sees to one model panics: that model fails with the reason INTERNAL once its worker is reaped,
//! the next load starts afresh, and nobody else notices.

use anyhow::{Context, Result};
use hangar_client::{
    Refusal,
    v1::{
        DesiredState, ErrorReason, ModelSpec,
        ModelState::{self, Draining, Failed, Loading, Ready, Starting, Unloaded, Warming},
        ModelStatus, RestartMode, SwitchModelRequest, SwitchOutcome,
        SwitchStrategy::{self, LoadFirst, UnloadFirst},
    },
};
use hangar_tests::{
    background::Background,
    failpoints::Failpoints,
    processes,
    refusals::refusal,
    scripted::{Gate, LoadScript, Script, ScriptedEvent},
    server::{DEADLINE, NEVER, TestServer, restarting},
    stubs::switch,
};
use rstest::rstest;
use tokio::time::timeout;
use tonic::Code;

use super::{chunk, end};

const MIB: u64 = 1 << 20;

/// Makes sure that a load which ended INTERNAL says where its cause is, and what it left behind.
#[track_caller]
fn assert_says_what_is_left(refused: &Refusal, log: &str) {
    let metadata = &refused.details().metadata;
    let of = |key: &str| metadata.get(key).map(String::as_str).unwrap_or_default();
    assert_eq!((of("model_id"), of("desired_state")), ("m", "LOADED"));
    let id = of("error_id");
    for word in [id, "stays registered", "UnloadModel", "DeleteModel"] {
        assert!(refused.message().contains(word), "{word}: {refused}");
    }
    let cause = log.lines().find(|line| line.contains(id));
    let cause = cause.unwrap_or_else(|| panic!("{id} is not logged"));
    assert!(cause.contains("a fault of the server"), "{cause}");
}

async fn server(failpoints: &Failpoints) -> Result<TestServer> {
    TestServer::scripted()
        .script(&Script::gated())
        .failpoints(failpoints)
        .start()
        .await
}

/// Makes sure that the model has failed and that its worker was reaped before.
#[track_caller]
fn assert_failed(failed: &ModelStatus, worker: u32) {
    assert_eq!(
        (failed.state(), failed.reason.as_str()),
        (Failed, "INTERNAL"),
        "{failed:?}"
    );
    assert!(!processes::exists(worker), "its worker lives");
    assert_eq!(failed.worker_pid, 0);
    assert!(failed.memory.is_none(), "{failed:?}");
}

#[rstest]
#[hangar_tests::test]
async fn a_panic_fails_the_model_and_nobody_else(
    #[values(
        "driver",
        "worker-run",
        "worker-owner",
        "worker-stdout",
        "worker-stderr"
    )]
    task: &str,
) -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = server(&failpoints).await?;
    // Not tried again: somebody should look at it.
    let spec = restarting(&server.directory, RestartMode::Always, 3);
    let load = server.client.load("m").spec(spec).wait().await?;
    let worker = load.status.context("a status")?.worker_pid;
    let neighbour = server.fixtures.scripted("n", &Script::default())?;
    let neighbour = hangar_tests::server::spec(&neighbour);
    server.client.load("n").spec(neighbour).wait().await?;
    let mut transitions = server.follow("m").await?;
    let gate = server.gate("token")?;
    let mut running = server.client.generate("m").prompt("x").stream().await?;
    gate.step(1)?;
    assert_eq!(chunk(&mut running).await?, "t0 ");

    failpoints.panic(&format!("{task}.m"))?;
    let failed = transitions.next().await?;
    assert_failed(&failed, worker);
    refusal(
        end(&mut running).await,
        Code::Internal,
        ErrorReason::Internal,
    );
    let late = server.client.generate("m").prompt("x").text().await;
    refusal(late, Code::FailedPrecondition, ErrorReason::ModelNotLoaded);
    server.client.generate("n").prompt("x").text().await?;

    gate.open()?;
    let again = server.client.load("m").wait().await?;
    assert_ne!(again.status.context("a status")?.worker_pid, worker);
    server.client.generate("m").prompt("x").text().await?;
    assert!(server.client.unload("m").send().await?.was_loaded);
    server.client.delete_model("m").send().await?;
    assert!(server.terminate().await?.success());
    Ok(())
}

#[rstest]
#[hangar_tests::test]
async fn a_load_whose_task_panics_fails(
    #[values(Starting, Loading, Warming)] state: ModelState,
    #[values("driver", "worker-run", "worker-owner")] task: &str,
) -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = server(&failpoints).await?;
    let mut held = server.hold(state).await?;
    failpoints.panic(&format!("{task}.m"))?;
    assert_failed(&held.transitions.next().await?, held.pid);
    let refused = refusal(
        held.load.end().await?,
        Code::Internal,
        ErrorReason::Internal,
    );
    assert_says_what_is_left(&refused, &server.log()?);
    held.gate.open()?;
    server.ready().await?;
    Ok(())
}

#[hangar_tests::test]
async fn an_unload_whose_driver_panics_while_it_drains_is_done_all_the_same() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = server(&failpoints).await?;
    let worker = server.ready().await?.worker_pid;
    let mut events = server.events()?;
    let _gate = server.gate("token")?;
    let mut transitions = server.follow("m").await?;
    let running = Background::start(server.client.generate("m").prompt("x").text());
    timeout(DEADLINE, events.until(ScriptedEvent::Generate)).await??;
    let unload = Background::start(server.client.unload("m").send());
    transitions.until(Draining).await?;
    failpoints.panic("driver.m")?;
    let unload = unload.end().await??;
    assert!(unload.was_loaded && unload.killed, "{unload:?}");
    assert!(!processes::exists(worker));
    refusal(running.end().await?, Code::Internal, ErrorReason::Internal);
    transitions.until(Unloaded).await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_reload_whose_driver_panics_while_it_drains_fails() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = server(&failpoints).await?;
    let worker = server.ready().await?.worker_pid;
    let mut events = server.events()?;
    let gate = server.gate("token")?;
    let mut transitions = server.follow("m").await?;
    let running = Background::start(server.client.generate("m").prompt("x").text());
    timeout(DEADLINE, events.until(ScriptedEvent::Generate)).await??;
    let reload = Background::start(server.client.load("m").force_reload().wait());
    let next = transitions.until(Draining).await?.next_load_id;
    failpoints.panic("driver.m")?;
    let failed = transitions.next().await?;
    assert_failed(&failed, worker);
    assert_eq!(failed.load_id, next);
    refusal(reload.end().await?, Code::Internal, ErrorReason::Internal);
    refusal(running.end().await?, Code::Internal, ErrorReason::Internal);
    let info = server.info().await?;
    assert_eq!(info.desired_state(), DesiredState::Loaded);
    let last = info.recent_loads.first().context("no load")?;
    assert_eq!(last.load_id, next);
    gate.open()?;
    server.ready().await?;
    Ok(())
}

/// A model that takes 100 MiB.
fn needy() -> Script {
    Script {
        need_host_bytes: 100 * MIB,
        load: LoadScript {
            memory_bytes: 100 * MIB,
            ..LoadScript::default()
        },
        ..Script::gated()
    }
}

/// A server with room for one model that is [`needy`], which `m` is.
async fn with_room_for_one(failpoints: &Failpoints) -> Result<TestServer> {
    TestServer::scripted()
        .script(&needy())
        .failpoints(failpoints)
        .argument("--memory-limit")
        .argument("200MiB")
        .time("--kill-timeout", NEVER)
        .start()
        .await
}

#[hangar_tests::test]
async fn a_reservation_outlives_its_driver_until_the_worker_is_reaped() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = with_room_for_one(&failpoints).await?;
    let spec = ModelSpec {
        pinned: true,
        ..server.spec()
    };
    let load = server.client.load("m").spec(spec).wait().await?;
    let worker = load.status.context("a status")?.worker_pid;
    let mut transitions = server.follow("m").await?;
    let (_, other) = server.script("n", &needy())?;
    let _gate = server.gate("token")?;
    let mut running = server.client.generate("m").prompt("x").stream().await?;

    // Whoever would kill the worker and reap it does not come to it.
    let blocked = failpoints.block("worker-owner.m")?;
    blocked.reached().await?;
    failpoints.panic("driver.m")?;
    refusal(
        end(&mut running).await,
        Code::Internal,
        ErrorReason::Internal,
    );
    let refused = server.load("n", other.clone()).await;
    assert!(processes::exists(worker));
    refusal(
        refused,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );

    drop(blocked);
    assert_failed(&transitions.until(Failed).await?, worker);
    server.load("n", other).await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_transition_that_panics_half_done_leaves_no_worker_behind() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = server(&failpoints).await?;
    let worker = server.ready().await?.worker_pid;
    let mut transitions = server.follow("m").await?;

    // The load of what is READY: its own call is the one that panics.
    failpoints.panic("driver-transition.m")?;
    refusal(
        server.load_m().wait().await,
        Code::Internal,
        ErrorReason::Internal,
    );
    assert_failed(&transitions.next().await?, worker);

    // The unload: its driver has heard of it.
    let worker = server.ready().await?.worker_pid;
    transitions.until(Ready).await?;
    failpoints.panic("driver-transition.m")?;
    let unload = server.client.unload("m").send().await?;
    assert!(unload.was_loaded && unload.killed, "{unload:?}");
    assert!(!processes::exists(worker));
    transitions.until(Unloaded).await?;

    // The very first transition of a load.
    failpoints.panic("driver-transition.m")?;
    refusal(
        server.load_m().wait().await,
        Code::Internal,
        ErrorReason::Internal,
    );
    assert_eq!(transitions.until(Failed).await?.reason, "INTERNAL");
    server.ready().await?;
    Ok(())
}

#[rstest]
#[hangar_tests::test]
async fn a_switch_whose_task_panics_goes_back(
    #[values(LoadFirst, UnloadFirst)] strategy: SwitchStrategy,
) -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = server(&failpoints).await?;
    server.ready().await?;
    server.client.switch("chat", "m").wait().await?;
    let new = server.fixtures.scripted("n", &Script::gated())?;
    let gate = Gate::new(&new, "load")?;
    let request = SwitchModelRequest {
        spec: Some(hangar_tests::server::spec(&new)),
        ..switch("chat", "n", strategy)
    };
    let mut transitions = server.follow("n").await?;
    let mut watch = server.watch().await?;
    let begun = server.stubs.switch(request.clone()).await?;
    transitions.until(Loading).await?;

    failpoints.panic("switch")?;
    let ended = watch.ended(&begun.switch_id).await?;
    assert_eq!(
        (ended.outcome(), ended.reason.as_str()),
        (SwitchOutcome::RolledBack, "INTERNAL"),
        "{ended:?}"
    );
    assert_eq!(server.info().await?.aliases, ["chat"]);
    server.client.generate("chat").prompt("x").text().await?;
    transitions.until(Unloaded).await?;
    assert!(server.stubs.info("n").await?.holders.is_empty());

    gate.open()?;
    let begun = server.stubs.switch(request).await?;
    let ended = watch.ended(&begun.switch_id).await?;
    assert_eq!(ended.outcome(), SwitchOutcome::Succeeded, "{ended:?}");
    assert!(server.terminate().await?.success());
    Ok(())
}
