//! Loads that go wrong by themselves.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::v1::{
    ErrorReason,
    ModelState::{Failed, Loading, Pending, Ready, Starting, Warming},
};
use hangar_tests::{
    background::Background,
    failpoints::Failpoints,
    fixtures::Fixtures,
    processes,
    refusals::{assert_left_behind, refusal},
    scripted::{Fault, LoadKind, LoadScript, Script, ScriptedEvent},
    server::{DEADLINE, TestServer, TestServerBuilder, Worker, spec},
};
use tokio::time::timeout;
use tonic::Code;

const SHORT: Duration = Duration::from_secs(1);

fn stalls_soon(options: TestServerBuilder) -> TestServerBuilder {
    options.time("--stall-timeout", SHORT)
}

#[hangar_tests::test]
async fn a_worker_that_dies_in_its_load_is_reported_with_its_exit() -> Result<()> {
    let ends = [
        (Fault::Kill, "SIGKILL"),
        (Fault::Abort, "SIGABRT"),
        (Fault::Segfault, "SIGSEGV"),
        (Fault::Exit(3), "status 3"),
    ];
    let server = TestServer::checked(&Script::default()).start().await?;
    for (fault, word) in ends {
        for kind in [LoadKind::Die(fault), LoadKind::DieWarming(fault)] {
            Script::loading(kind).write(&server.directory)?;
            let died = refusal(
                server.load_m().wait().await,
                Code::Unavailable,
                ErrorReason::WorkerDied,
            );
            assert!(died.message().contains(word), "{died}");
            let status = server.info().await?.status.context("a status")?;
            assert_eq!(
                (status.state(), status.reason.as_str()),
                (Failed, "WORKER_DIED")
            );
        }
    }
    assert!(processes::children(server.pid())?.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn a_load_that_breaks_off_fails() -> Result<()> {
    let server = TestServer::checked(&Script::default()).start().await?;
    for kind in [LoadKind::EndEarly, LoadKind::Error] {
        Script::loading(kind).write(&server.directory)?;
        refusal(
            server.load_m().wait().await,
            Code::Unavailable,
            ErrorReason::WorkerDied,
        );
        assert!(processes::children(server.pid())?.is_empty());
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_connection_that_breaks_does_not_end_the_load() -> Result<()> {
    let script = Script {
        load: LoadScript {
            breaks: (2, 1),
            ..LoadScript::default()
        },
        ..Script::default()
    };
    let server = TestServer::scripted().script(&script).start().await?;
    let mut events = server.events()?;
    let mut transitions = server.follow("m").await?;
    let ready = server.ready().await?;
    assert_eq!((ready.attempt, ready.restarts), (1, 0), "{ready:?}");
    for state in [Pending, Starting, Loading, Warming, Ready] {
        assert_eq!(transitions.next().await?.state(), state);
    }
    for _ in 0..4 {
        let called = timeout(DEADLINE, events.until(ScriptedEvent::Load)).await??;
        assert_eq!(called, ready.worker_pid);
    }
    server.client.generate("m").prompt("x").text().await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_load_that_the_worker_gives_up_is_reported_in_its_words() -> Result<()> {
    let kind = LoadKind::Fail {
        reason: "MODEL_UNUSABLE".into(),
        message: "config.json has no hidden_size. Copy the model anew.".into(),
    };
    let server = TestServer::checked(&Script::loading(kind)).start().await?;
    let failed = refusal(
        server.load_m().wait().await,
        Code::FailedPrecondition,
        ErrorReason::ModelUnusable,
    );
    let words = "config.json has no hidden_size. Copy the model anew.";
    let status = server.info().await?.status.context("a status")?;
    assert_eq!((status.state(), status.message.as_str()), (Failed, words));
    assert_left_behind(words, failed.message());
    Ok(())
}

#[hangar_tests::test]
async fn a_load_that_stands_still_is_stalled() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .with(stalls_soon)
        .start()
        .await?;
    for kind in [LoadKind::Hang, LoadKind::NeverWarm] {
        Script::loading(kind).write(&server.directory)?;
        let stalled = refusal(
            server.load_m().wait().await,
            Code::DeadlineExceeded,
            ErrorReason::LoadStalled,
        );
        assert_eq!(stalled.details().retry_after, None);
        let status = server.info().await?.status.context("a status")?;
        assert_eq!(
            (status.state(), status.reason.as_str()),
            (Failed, "LOAD_STALLED")
        );
        assert!(processes::children(server.pid())?.is_empty());
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_stopped_worker_is_a_stalled_load() -> Result<()> {
    let script = Script::loading(LoadKind::Die(Fault::Stop));
    let server = TestServer::scripted()
        .script(&script)
        .with(stalls_soon)
        .start()
        .await?;
    let load = server.load_m().wait().await;
    refusal(load, Code::DeadlineExceeded, ErrorReason::LoadStalled);
    assert!(processes::children(server.pid())?.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn a_busy_load_is_not_stalled() -> Result<()> {
    let limit = SHORT * 4;
    let server = TestServer::scripted()
        .script(&Script::loading(LoadKind::Spin))
        .time("--stall-timeout", limit)
        .start()
        .await?;
    let load = server.load_m().timeout(limit * 3).wait().await;
    refusal(load, Code::DeadlineExceeded, ErrorReason::LoadTimeout);
    assert!(processes::children(server.pid())?.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn a_load_that_reads_slowly_is_not_stalled() -> Result<()> {
    let script = Script {
        load: LoadScript {
            bytes: 50 << 20,
            steps: 20,
            step_gate: Some("step".into()),
            ..LoadScript::default()
        },
        ..Script::default()
    };
    let server = TestServer::scripted()
        .script(&script)
        .time("--stall-timeout", SHORT * 6)
        .start()
        .await?;
    let gate = server.gate("step")?;
    let mut transitions = server.follow("m").await?;
    server.load_m().send().await?;
    // All steps together take longer than the time after which a load is stalled, each of them far less.
    let mut ticks = tokio::time::interval(SHORT);
    for _ in 0..9 {
        ticks.tick().await;
        gate.step(1)?;
    }
    gate.open()?;
    transitions.until(Ready).await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_worker_that_is_not_there_fails_the_load() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let model = fixtures.scripted("m", &Script::default())?;
    let worker = fixtures.root().join("worker");
    std::os::unix::fs::symlink("/bin/true", &worker)?;
    let server = TestServer::real()
        .fixtures(&fixtures)
        .worker(Worker::At(worker.clone()))
        .start()
        .await?;
    std::fs::remove_file(&worker)?;
    let client = server.connect().await?;
    let absent = client.load("m").spec(spec(&model)).wait().await;
    let absent = refusal(
        absent,
        Code::FailedPrecondition,
        ErrorReason::DeviceUnavailable,
    );
    assert!(
        absent.message().contains(&*worker.to_string_lossy()),
        "{absent}"
    );
    std::os::unix::fs::symlink("/bin/true", &worker)?;
    let other = client.load("m").wait().await;
    refusal(other, Code::Unavailable, ErrorReason::WorkerDied);
    Ok(())
}

#[hangar_tests::test]
async fn a_model_that_does_not_fit_is_refused_with_the_numbers() -> Result<()> {
    let script = Script {
        need_host_bytes: 1 << 50,
        ..Script::default()
    };
    let server = TestServer::checked(&script).start().await?;
    let refused = refusal(
        server.load_m().wait().await,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    assert!(refused.message().contains("1.0 PiB"), "{refused}");
    assert_eq!(refused.details().quotas.len(), 1);
    assert!(processes::children(server.pid())?.is_empty());
    assert_eq!(
        server.info().await?.status.context("a status")?.reason,
        "INSUFFICIENT_MEMORY"
    );
    Ok(())
}

#[hangar_tests::test]
async fn loads_wait_for_the_thread_that_starts_their_workers() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&Script::default())
        .failpoints(&failpoints)
        .argument("--max-concurrent-loads")
        .argument("20")
        .start()
        .await?;
    let ids: Vec<_> = (0..20).map(|n| format!("m{n}")).collect();
    let blocked = failpoints.block("hangar-spawner")?;
    let load = |id| Background::start(server.client.load(id).spec(server.spec()).wait());
    let loads: Vec<_> = ids.iter().map(load).collect();
    for id in &ids {
        server.follow(id).await?.until(Starting).await?;
    }
    drop(blocked);
    for load in loads {
        load.end().await??;
    }
    Ok(())
}
