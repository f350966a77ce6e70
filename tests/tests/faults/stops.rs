//! Workers that do not go when they are asked to.

use std::time::Duration;

use anyhow::Result;
use hangar_client::v1::UnloadVerification;
use hangar_tests::{
    hangar::{DEADLINE, NEVER, Options},
    lab::Lab,
    processes,
    scripted::{Script, ShutdownKind, StatsKind},
};
use rustix::process::Signal;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(1);

async fn lab(script: &Script) -> Result<Lab> {
    patient_lab(script, LIMIT).await
}

/// A server that gives its workers so much time to go.
async fn patient_lab(script: &Script, limit: Duration) -> Result<Lab> {
    Lab::with(script, |options: Options| {
        options.time("--kill-timeout", limit)
    })
    .await
}

async fn assert_is_killed(lab: &Lab, worker: u32) -> Result<()> {
    let unload = timeout(DEADLINE, lab.client.unload("m").send()).await??;
    assert!(unload.was_loaded && unload.killed);
    assert_eq!(unload.verification(), UnloadVerification::Reaped);
    assert!(unload.host_bytes_freed > 0);
    assert!(!processes::exists(worker));
    Ok(())
}

#[tokio::test]
async fn a_worker_that_ignores_everything_is_killed() -> Result<()> {
    for shutdown in [ShutdownKind::Ignore, ShutdownKind::Hang] {
        let script = Script {
            ignore_sigterm: true,
            shutdown,
            ..Script::default()
        };
        let lab = lab(&script).await?;
        let worker = lab.ready().await?.worker_pid;
        assert_is_killed(&lab, worker).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_stopped_worker_is_killed() -> Result<()> {
    let lab = lab(&Script::default()).await?;
    let worker = lab.ready().await?.worker_pid;
    processes::signal(worker, Signal::STOP)?;
    assert_is_killed(&lab, worker).await
}

#[tokio::test]
async fn a_worker_that_dies_when_asked_to_go_is_gone() -> Result<()> {
    let script = Script {
        shutdown: ShutdownKind::Die,
        ..Script::default()
    };
    let lab = patient_lab(&script, NEVER).await?;
    let worker = lab.ready().await?.worker_pid;
    let unload = lab.client.unload("m").send().await?;
    assert!(unload.was_loaded && !unload.killed);
    assert!(!processes::exists(worker));
    Ok(())
}

#[tokio::test]
async fn a_worker_without_a_pulse_can_be_unloaded() -> Result<()> {
    let script = Script {
        stats: StatsKind::Silent,
        ..Script::default()
    };
    let lab = patient_lab(&script, NEVER).await?;
    lab.ready().await?;
    lab.client.generate("m").prompt("x").text().await?;
    let unload = lab.client.unload("m").send().await?;
    assert!(unload.was_loaded && !unload.killed);
    Ok(())
}
