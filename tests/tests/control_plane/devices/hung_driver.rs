//! A driver that does not answer holds nobody up who does not need it.

use std::time::Duration;

use anyhow::Result;
use hangar_client::v1::{ErrorReason, ModelState, UnloadVerification};
use hangar_tests::{background::Background, refusals::refusal};
use tonic::Code;

use super::server::{GIB, GpuServer};

/// Servers that are tried: on a busy machine the driver's time may be over before all the rest was done. Where the rest
/// waits for the driver it is over before, however often that is tried.
const ATTEMPTS: usize = 6;

#[hangar_tests::test]
async fn a_driver_that_hangs_is_reported_and_holds_up_nobody_else() -> Result<()> {
    for _ in 0..ATTEMPTS {
        if others_go_on_while_the_driver_hangs().await? {
            return Ok(());
        }
    }
    anyhow::bail!("others waited for the driver")
}

/// Whether everybody else was served before the driver's time was over.
async fn others_go_on_while_the_driver_hangs() -> Result<bool> {
    let server = GpuServer::with(&[10], |options| {
        options.time("--device-release-timeout", Duration::from_millis(300))
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
    // None of that waited for the driver if its time is not over.
    let in_time = server.status("m").await?.state() == ModelState::Pending;
    let refused = refusal(
        load.end().await?,
        Code::FailedPrecondition,
        ErrorReason::DeviceUnavailable,
    );
    assert!(refused.message().contains("does not answer"), "{refused}");
    server.driver.hang(false)?;
    server.client.load("m").wait().await?;
    Ok(in_time)
}
