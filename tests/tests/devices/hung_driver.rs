//! A driver that does not answer holds nobody up who does not need it.

use std::time::Duration;

use anyhow::Result;
use hangar_client::v1::{ErrorReason, ModelState, UnloadVerification};
use hangar_tests::{background::Background, refusals::refusal};
use tonic::Code;

use crate::house::{GIB, House};

#[tokio::test]
async fn a_driver_that_hangs_is_told_and_holds_up_nobody_else() -> Result<()> {
    let house = House::with(&[10], |options| {
        options.time("--device-release-timeout", Duration::from_millis(300))
    });
    let house = house.await?;
    house.load("loaded", "cuda", GIB).await?;
    house.driver.hang(true)?;
    let mut waiting = house.hangar.follow("m").await?;
    let spec = house.spec("m", "cuda", GIB)?;
    let load = Background::start(house.client.load("m").spec(spec).wait());
    waiting.until(ModelState::Pending).await?;
    let info = house.client.info().send().await?;
    assert_eq!(info.devices.len(), 1, "the last reading stands");
    house.load("on-cpu", "cpu", 0).await?;
    let unload = house.client.unload("loaded").send().await?;
    assert_eq!(unload.verification(), UnloadVerification::TimedOut);
    assert_eq!(house.status("loaded").await?.reason, "DEVICE_MEMORY_HELD");
    // None of that waited for the driver, whose time is not over.
    assert_eq!(house.status("m").await?.state(), ModelState::Pending);
    let refused = refusal(
        load.end().await?,
        Code::FailedPrecondition,
        ErrorReason::DeviceUnavailable,
    );
    assert!(refused.message().contains("does not answer"), "{refused}");
    house.driver.hang(false)?;
    house.client.load("m").wait().await?;
    Ok(())
}
