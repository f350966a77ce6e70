//! A driver that does not answer holds nobody up who does not need it.

use std::time::Duration;

use anyhow::Result;
use hangar_client::v1::{ErrorReason, ModelState, UnloadVerification};
use hangar_tests::{background::Background, refusals::refusal, server::NEVER};
use tonic::Code;

use super::server::{GIB, GpuServer};

#[hangar_tests::test]
async fn a_driver_that_hangs_holds_up_nobody_who_does_not_need_it() -> Result<()> {
    let server = GpuServer::with(&[10], |options| {
        options
            .time("--gpu-driver-timeout", NEVER)
            .time("--device-release-timeout", Duration::from_millis(300))
    });
    let server = server.await?;
    server.load("loaded", "cuda", GIB).await?;
    server.driver.hang(true)?;
    let mut waiting = server.follow("m").await?;
    let spec = server.spec("m", "cuda", GIB)?;
    let load = Background::start(server.client.load("m").spec(spec).wait());
    waiting.until(ModelState::Pending).await?;
    let info = server.client.info().send().await?;
    assert_eq!(info.devices.len(), 1, "the last reading stands");
    server.load("on-cpu", "cpu", 0).await?;
    let unload = server.client.unload("loaded").send().await?;
    assert_eq!(unload.verification(), UnloadVerification::TimedOut);
    assert_eq!(server.status("loaded").await?.reason, "DEVICE_MEMORY_HELD");
    assert_eq!(server.status("m").await?.state(), ModelState::Pending);
    server.driver.hang(false)?;
    load.end().await??;
    Ok(())
}

#[hangar_tests::test]
async fn a_load_that_needs_a_driver_that_hangs_is_told_so_in_time() -> Result<()> {
    let gpu_driver_timeout = Duration::from_millis(100);
    let server = GpuServer::with(&[10], |options| {
        options.time("--gpu-driver-timeout", gpu_driver_timeout)
    });
    let server = server.await?;
    server.driver.hang(true)?;
    let spec = server.spec("m", "cuda", GIB)?;
    let refused = refusal(
        server.client.load("m").spec(spec).wait().await,
        Code::FailedPrecondition,
        ErrorReason::DeviceUnavailable,
    );
    assert!(refused.message().contains("does not answer"), "{refused}");
    Ok(())
}
