//! Whether a device has its memory back after an unload.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::v1::{ModelState, ModelUnload, UnloadVerification};
use hangar_tests::background::Background;

use super::server::{GIB, GpuServer};

const MIB: u64 = 1 << 20;

/// Time that the tests give a device that does not give its memory back.
const RELEASE_TIMEOUT: Duration = Duration::from_millis(300);

fn verified(unload: &ModelUnload) -> (UnloadVerification, u64) {
    (unload.verification(), unload.device_bytes_freed)
}

#[hangar_tests::test]
async fn an_unload_verifies_that_device_memory_came_back() -> Result<()> {
    let server = GpuServer::with_gpus(&[10]).await?;
    for _ in 0..3 {
        server.load("m", "cuda", 4 * GIB).await?;
        let unload = server.client.unload("m").send().await?;
        assert_eq!(
            verified(&unload),
            (UnloadVerification::DeviceObserved, 4 * GIB)
        );
        let status = server.status("m").await?;
        assert_eq!(status.state(), ModelState::Unloaded);
        assert_eq!((status.reason.as_str(), status.message.as_str()), ("", ""));
    }
    // On the CPU nothing is there to be seen.
    server.load("c", "cpu", 0).await?;
    let unload = server.client.unload("c").send().await?;
    assert_eq!(verified(&unload), (UnloadVerification::Reaped, 0));
    Ok(())
}

#[hangar_tests::test]
async fn changes_of_other_models_are_allowed_for() -> Result<()> {
    let server = GpuServer::with_gpus(&[20]).await?;
    server.load("before", "cuda", 3 * GIB).await?;
    server.load("m", "cuda", 4 * GIB).await?;
    server.load("after", "cuda", 5 * GIB).await?;
    server.client.unload("before").send().await?;
    let unload = server.client.unload("m").send().await?;
    assert_eq!(
        verified(&unload),
        (UnloadVerification::DeviceObserved, 4 * GIB)
    );
    let unload = server.client.unload("after").send().await?;
    assert_eq!(
        verified(&unload),
        (UnloadVerification::DeviceObserved, 5 * GIB)
    );
    Ok(())
}

#[hangar_tests::test]
async fn memory_that_another_process_took_is_allowed_for_and_reported() -> Result<()> {
    let server = GpuServer::with_gpus(&[20]).await?;
    server.load("m", "cuda", 4 * GIB).await?;
    server.driver.take(0, 2 * GIB)?;
    let unload = server.client.unload("m").send().await?;
    assert_eq!(unload.verification(), UnloadVerification::SharedDevice);
    assert_eq!(server.status("m").await?.reason, "");
    Ok(())
}

#[hangar_tests::test]
async fn memory_that_does_not_come_back_is_reported_and_not_given_away() -> Result<()> {
    let server = GpuServer::with(&[10], |options| {
        options.time("--device-release-timeout", RELEASE_TIMEOUT)
    });
    let server = server.await?;
    server.load("m", "cuda", 4 * GIB).await?;
    server.driver.set(0, &server.gpus[0].without(65 * MIB))?;
    let unload = server.client.unload("m").send().await?;
    assert_eq!(unload.verification(), UnloadVerification::TimedOut);
    let status = server.status("m").await?;
    assert_eq!(status.state(), ModelState::Unloaded);
    assert_eq!(status.reason, "DEVICE_MEMORY_HELD");
    for words in ["65.0 MiB", "device 0", &server.gpus[0].uuid] {
        assert!(status.message.contains(words), "{words}: {status:?}");
    }
    // What is lost counts as in use, and the model can be loaded again.
    server.driver.set(0, &server.gpus[0].without(6 * GIB))?;
    assert!(server.client.load("m").wait().await.is_err());
    server.driver.set(0, &server.gpus[0])?;
    let load = server.client.load("m").wait().await?;
    assert_eq!(load.status.context("a status")?.reason, "");
    Ok(())
}

#[hangar_tests::test]
async fn memory_that_comes_back_late_is_waited_for() -> Result<()> {
    let server = GpuServer::with_gpus(&[10]).await?;
    server.load("m", "cuda", 4 * GIB).await?;
    server.driver.set(0, &server.gpus[0].without(4 * GIB))?;
    let mut transitions = server.follow("m").await?;
    let unload = Background::start(server.client.unload("m").send());
    transitions.until(ModelState::Unloading).await?;
    // A load that comes meanwhile begins when the unload has ended.
    let load = Background::start(server.client.load("m").wait());
    server.driver.set(0, &server.gpus[0])?;
    let unload = unload.end().await??;
    assert_eq!(unload.verification(), UnloadVerification::DeviceObserved);
    load.end().await??;
    Ok(())
}

#[hangar_tests::test]
async fn a_driver_that_reports_no_processes_is_enough() -> Result<()> {
    let server = GpuServer::with_gpus(&[10]).await?;
    server.driver.keep_quiet(true)?;
    server.load("m", "cuda", 4 * GIB).await?;
    let unload = server.client.unload("m").send().await?;
    assert_eq!(
        verified(&unload),
        (UnloadVerification::DeviceObserved, 4 * GIB)
    );
    Ok(())
}

#[hangar_tests::test]
async fn growth_of_another_model_is_allowed_for() -> Result<()> {
    let server = GpuServer::with_gpus(&[20]).await?;
    let other = server.load("other", "cuda", 3 * GIB).await?.worker_pid;
    server.load("m", "cuda", 4 * GIB).await?;
    server.driver.grow(0, other, 4 * GIB)?;
    let unload = server.client.unload("m").send().await?;
    assert_eq!(unload.verification(), UnloadVerification::DeviceObserved);
    // Where the driver does not say who it was, that is reported.
    server.driver.keep_quiet(true)?;
    server.load("m", "cuda", 4 * GIB).await?;
    server.driver.grow(0, other, 5 * GIB)?;
    server
        .devices_when(|devices| devices[0].memory_free_bytes == 11 * GIB)
        .await?;
    let unload = server.client.unload("m").send().await?;
    assert_eq!(
        verified(&unload),
        (UnloadVerification::SharedDevice, 4 * GIB)
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_worker_that_the_driver_knows_by_another_pid_is_not_counted_as_another_process()
-> Result<()> {
    let server = GpuServer::with_gpus(&[10]).await?;
    let worker = server.load("m", "cuda", 4 * GIB).await?.worker_pid;
    // As a driver does that knows processes by the numbers of the host, and not of the container.
    let alias = std::process::id();
    server.driver.grow(0, alias, 4 * GIB)?;
    server.driver.forget(0, worker)?;
    server.driver.set(0, &server.gpus[0].without(MIB))?;
    server
        .devices_when(|devices| devices[0].memory_free_bytes == 6 * GIB - MIB)
        .await?;
    let mut transitions = server.follow("m").await?;
    let unload = Background::start(server.client.unload("m").send());
    transitions.until(ModelState::Unloading).await?;
    server.driver.forget(0, alias)?;
    let unload = unload.end().await??;
    assert_eq!(unload.verification(), UnloadVerification::DeviceObserved);
    Ok(())
}
