//! Unloads that do not wait for their worker: its device is looked at all the same.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, ModelState, UnloadVerification};
use hangar_tests::{
    background::Background,
    refusals::refusal,
    scripted::{Gate, LoadScript, Script, ShutdownKind},
};
use tonic::Code;

use super::server::{GIB, GpuServer};

#[hangar_tests::test]
async fn a_load_that_is_cancelled_gives_its_device_back() -> Result<()> {
    let server = GpuServer::with_gpus(&[10]).await?;
    let script = Script {
        need_device_bytes: 4 * GIB,
        load: LoadScript {
            device_bytes: 4 * GIB,
            warm_gate: Some("warm".to_owned()),
            ..LoadScript::default()
        },
        ..Script::default()
    };
    let spec = server.scripted("m", "cuda", &script)?;
    let _gate = Gate::new(&server.fixtures.directory("m")?, "warm")?;
    let mut transitions = server.follow("m").await?;
    let load = Background::start(server.client.load("m").spec(spec).wait());
    transitions.until(ModelState::Warming).await?;
    let unload = server.client.unload("m").send().await?;
    assert_eq!(unload.verification(), UnloadVerification::DeviceObserved);
    refusal(load.end().await?, Code::Aborted, ErrorReason::LoadCancelled);
    // All of the device is there for the next one.
    server.load("next", "cuda", 8 * GIB).await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_worker_that_has_to_be_killed_gives_its_device_back() -> Result<()> {
    let server = GpuServer::with(&[10], |options| {
        options.time("--kill-timeout", Duration::from_secs(1))
    });
    let server = server.await?;
    let script = Script {
        shutdown: ShutdownKind::Ignore,
        ..Script::on_device(4 * GIB)
    };
    let spec = server.scripted("m", "cuda", &script)?;
    server.try_load("m", spec).await?;
    let unload = server.client.unload("m").send().await?;
    assert!(unload.killed);
    assert_eq!(unload.verification(), UnloadVerification::DeviceObserved);
    assert_eq!(unload.device_bytes_freed, 4 * GIB);
    Ok(())
}

#[hangar_tests::test]
async fn all_models_are_unloaded_from_all_devices() -> Result<()> {
    let server = GpuServer::with_gpus(&[10, 10]).await?;
    server.load("a", "cuda:0", 2 * GIB).await?;
    server.load("b", "cuda:1", 3 * GIB).await?;
    server.load("c", "cpu", 0).await?;
    let mut unloads = server.client.unload_all().send().await?.unloads;
    unloads.sort_by(|a, b| a.model_id.cmp(&b.model_id));
    let reported = unloads
        .iter()
        .map(|unload| (unload.verification(), unload.device_bytes_freed));
    assert_eq!(
        reported.collect::<Vec<_>>(),
        [
            (UnloadVerification::DeviceObserved, 2 * GIB),
            (UnloadVerification::DeviceObserved, 3 * GIB),
            (UnloadVerification::Reaped, 0),
        ]
    );
    let devices = server.devices_when(|devices| {
        devices
            .iter()
            .all(|device| device.memory_free_bytes == 10 * GIB)
    });
    let held = devices
        .await?
        .first()
        .map(|device| device.memory_models_bytes);
    assert_eq!(held.context("a device")?, 0);
    Ok(())
}

#[hangar_tests::test]
async fn models_that_leave_a_device_together_report_their_own_bytes() -> Result<()> {
    let server = GpuServer::with_gpus(&[10]).await?;
    server.load("a", "cuda:0", 2 * GIB).await?;
    server.load("b", "cuda:0", 3 * GIB).await?;
    let mut unloads = server.client.unload_all().send().await?.unloads;
    unloads.sort_by(|a, b| a.model_id.cmp(&b.model_id));
    let reported = unloads
        .iter()
        .map(|unload| (unload.verification(), unload.device_bytes_freed));
    let observed = UnloadVerification::DeviceObserved;
    assert_eq!(
        reported.collect::<Vec<_>>(),
        [(observed, 2 * GIB), (observed, 3 * GIB)]
    );
    Ok(())
}
