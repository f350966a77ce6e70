//! Workers that do not go when they are asked to.

use std::time::Duration;

use anyhow::Result;
use hangar_client::v1::UnloadVerification;
use hangar_tests::{
    failpoints::Failpoints,
    processes,
    scripted::{Script, ShutdownKind, StatsKind},
    server::{DEADLINE, NEVER, TestServer},
};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(1);

async fn server(script: &Script) -> Result<TestServer> {
    patient_server(script, LIMIT).await
}

/// A server that gives its workers so much time to go.
async fn patient_server(script: &Script, limit: Duration) -> Result<TestServer> {
    TestServer::scripted()
        .script(script)
        .time("--kill-timeout", limit)
        .start()
        .await
}

async fn assert_is_killed(server: &TestServer, worker: u32) -> Result<()> {
    let unload = timeout(DEADLINE, server.client.unload("m").send()).await??;
    assert!(unload.was_loaded && unload.killed);
    assert_eq!(unload.verification(), UnloadVerification::Reaped);
    assert!(unload.host_bytes_freed > 0);
    assert!(!processes::exists(worker));
    Ok(())
}

#[hangar_tests::test]
async fn a_worker_that_ignores_everything_is_killed() -> Result<()> {
    for shutdown in [ShutdownKind::Ignore, ShutdownKind::Hang] {
        let script = Script {
            ignore_sigterm: true,
            shutdown,
            ..Script::default()
        };
        let server = server(&script).await?;
        let worker = server.ready().await?.worker_pid;
        assert_is_killed(&server, worker).await?;
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_stopped_worker_is_killed() -> Result<()> {
    let server = server(&Script::default()).await?;
    let worker = server.ready().await?.worker_pid;
    processes::stop(worker, DEADLINE).await?;
    assert_is_killed(&server, worker).await
}

#[hangar_tests::test]
async fn a_worker_that_dies_during_its_stop_counts_as_stopped() -> Result<()> {
    let script = Script {
        shutdown: ShutdownKind::Die,
        ..Script::default()
    };
    let server = patient_server(&script, NEVER).await?;
    let worker = server.ready().await?.worker_pid;
    let unload = server.client.unload("m").send().await?;
    assert!(unload.was_loaded && !unload.killed);
    assert!(!processes::exists(worker));
    Ok(())
}

#[hangar_tests::test]
async fn a_worker_without_a_heartbeat_can_be_unloaded() -> Result<()> {
    let script = Script {
        stats: StatsKind::Silent,
        ..Script::default()
    };
    let server = patient_server(&script, NEVER).await?;
    server.ready().await?;
    server.client.generate("m").prompt("x").text().await?;
    let unload = server.client.unload("m").send().await?;
    assert!(unload.was_loaded && !unload.killed);
    Ok(())
}

#[hangar_tests::test]
async fn an_unload_waits_for_the_worker_and_not_for_the_file_system_of_its_socket() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&Script::default())
        .failpoints(&failpoints)
        .time("--kill-timeout", NEVER)
        .start()
        .await?;
    let worker = server.ready().await?.worker_pid;
    let blocked = failpoints.block("worker-socket.m")?;
    let unload = timeout(DEADLINE, server.client.unload("m").send()).await??;
    assert!(unload.was_loaded && !unload.killed);
    assert_eq!(unload.verification(), UnloadVerification::Reaped);
    assert!(!processes::exists(worker));
    blocked.reached().await?;
    // Nor does the next worker, nor the end of the server.
    server.ready().await?;
    assert!(server.terminate().await?.success());
    Ok(())
}
