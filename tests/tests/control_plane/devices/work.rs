//! What a device does for a worker is work.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, ModelInfo, ModelState::Ready};
use hangar_tests::{
    background::Background,
    nvml_stub::Gpu,
    refusals::refusal,
    scripted::{GenerateScript, Script},
};
use tokio::time::timeout;
use tonic::Code;

use super::server::{GIB, GpuServer};

const LIMIT: Duration = Duration::from_millis(1500);

#[hangar_tests::test]
async fn a_pace_is_that_of_the_device_where_it_was_seen() -> Result<()> {
    let server = GpuServer::with_gpus(&[10, 8]).await?;
    let script = Script {
        pace: Some(1000.0),
        ..Script::on_device(GIB)
    };
    let spec = server.scripted("m", "cuda", &script)?;
    let pace = |info: &ModelInfo| info.learned.as_ref().and_then(|learned| learned.pace);
    server.try_load("m", spec.clone()).await?;
    let first = server.place("m").await?;
    server.info_when("m", |info| pace(info).is_some()).await?;
    server.scripted("m", "cuda", &Script::on_device(GIB))?;
    server.client.load("m").force_reload().wait().await?;
    assert_eq!(server.place("m").await?, first);
    assert!(pace(&server.info("m").await?).is_some(), "it is forgotten");

    server.client.unload("m").send().await?;
    server.driver.take(0, 5 * GIB)?;
    server.try_load("m", spec).await?;
    assert_ne!(server.place("m").await?, first);
    assert_eq!(pace(&server.info("m").await?), None);
    Ok(())
}

#[hangar_tests::test]
async fn an_engine_hangs_only_if_its_device_rests_too() -> Result<()> {
    let server = GpuServer::with(&[8], |options| options.time("--hang-timeout", LIMIT)).await?;
    let gpu = |busy| Gpu {
        busy,
        ..server.gpus[0].clone()
    };
    server.driver.set(0, &gpu(50))?;
    let script = Script {
        generate: GenerateScript {
            hang_after: Some(1),
            ..GenerateScript::default()
        },
        ..Script::on_device(GIB)
    };
    let spec = server.scripted("m", "cuda", &script)?;
    server.try_load("m", spec).await?;
    server
        .devices_when(|devices| devices.iter().all(|device| device.utilization == Some(0.5)))
        .await?;
    let mut transitions = server.follow("m").await?;
    transitions.until(Ready).await?;
    let answer = Background::start(server.client.generate("m").prompt("x").text());
    let transition = timeout(LIMIT * 5 / 2, transitions.next()).await;
    assert!(transition.is_err(), "{transition:?}");
    server.driver.set(0, &gpu(0))?;
    refusal(
        answer.end().await?,
        Code::Unavailable,
        ErrorReason::WorkerHung,
    );
    let failed = transitions.next().await.context("a transition")?;
    assert_eq!(failed.reason, "WORKER_HUNG");
    Ok(())
}
