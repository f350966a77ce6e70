//! `idle_timeout`: a model that nobody uses goes by itself.

use std::time::{Duration, Instant};

use anyhow::Result;
use hangar_client::{
    convert::to_proto_duration,
    v1::{
        ModelSpec,
        ModelState::{Draining, Ready, Unloaded},
        SuspendReason::Idle,
    },
};

use crate::house::House;

#[tokio::test]
async fn a_model_goes_when_nobody_used_it_for_its_idle_time_out() -> Result<()> {
    let house = House::for_units(9.0).await?;
    let limit = Duration::from_millis(1500);
    let idle = Some(to_proto_duration(limit));
    let lazy = |required, pinned| -> Result<ModelSpec> {
        Ok(ModelSpec {
            idle_timeout: idle,
            required,
            pinned,
            ..house.spec()?
        })
    };
    let session = house.client.open_session(Duration::from_secs(60)).await?;
    house
        .client
        .load("required")
        .spec(lazy(true, false)?)
        .wait()
        .await?;
    let held = house.client.load("held").spec(lazy(false, false)?);
    held.session(&session).wait().await?;
    house
        .client
        .load("used")
        .spec(lazy(false, false)?)
        .wait()
        .await?;
    let mut used = house.follow("used").await?;
    house
        .client
        .load("pinned")
        .spec(lazy(false, true)?)
        .wait()
        .await?;
    let mut pinned = house.follow("pinned").await?;
    house.touch("used").await?;
    let last = Instant::now();
    let draining = used.until(Draining).await?;
    assert!(last.elapsed() >= limit, "after {:?}", last.elapsed());
    assert_eq!(draining.suspend_reason(), Idle);
    let gone = used.until(Unloaded).await?;
    assert!(gone.message.contains("idle_timeout") && gone.reason.is_empty());
    // To be pinned protects from others, not from the model's own limit.
    pinned.until(Unloaded).await?;
    assert_eq!(house.ready().await?, ["held", "required"]);
    house.client.load("used").wait().await?;
    used.until(Ready).await?;
    Ok(())
}
