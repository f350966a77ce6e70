//! What GetInfo and the metrics report of devices and of models on them.

use anyhow::{Context, Result};
use hangar_tests::{metrics::Metrics, nvml_stub::Gpu, scripted::Script};

use super::server::{GIB, GpuServer};

#[hangar_tests::test]
async fn devices_are_reported_as_the_driver_describes_them() -> Result<()> {
    let server = GpuServer::with_gpus(&[80, 24]).await?;
    let busy = Gpu {
        busy: 37,
        ..server.gpus[1].without(2 * GIB)
    };
    server.driver.set(1, &busy)?;
    let reported = |devices: &[hangar_client::v1::DeviceInfo]| {
        devices
            .get(1)
            .is_some_and(|device| device.utilization == Some(0.37))
    };
    // The driver is read every five seconds, and again when a model needs to know.
    server.load("m", "cuda:1", GIB).await?;
    let devices = server.devices_when(reported).await?;
    assert_eq!(devices.len(), 2);
    for (ordinal, (device, gpu)) in devices.iter().zip(&server.gpus).enumerate() {
        assert_eq!((&device.uuid, &device.name), (&gpu.uuid, &gpu.name));
        assert_eq!(device.ordinal as usize, ordinal);
        assert_eq!(device.memory_total_bytes, gpu.bytes);
        assert_eq!(device.driver_version, "580.65.06");
        assert_eq!(device.cuda_version, "13.0");
        assert!(device.sampled_at.is_some());
    }
    assert_eq!(devices[0].memory_free_bytes, 80 * GIB);
    Ok(())
}

#[hangar_tests::test]
async fn memory_of_models_is_reported_by_device() -> Result<()> {
    let server = GpuServer::with_gpus(&[10, 10]).await?;
    server.load("a", "cuda:1", 2 * GIB).await?;
    let status = server.load("b", "cuda:1", 3 * GIB).await?;
    assert_eq!(status.memory.context("memory")?.device_bytes, 3 * GIB);
    let devices = server.devices_when(|devices| devices[1].memory_free_bytes == 5 * GIB);
    let devices = devices.await?;
    let held: Vec<_> = devices.iter().map(|d| d.memory_models_bytes).collect();
    assert_eq!(held, [0, 5 * GIB]);
    let metrics = Metrics::of(server.ops_listen()).await?;
    let labels = [("model", "b"), ("type", "device")];
    let bytes = metrics.value("hangar_model_memory_bytes", &labels);
    assert_eq!(bytes, Some((3 * GIB) as f64));
    Ok(())
}

#[hangar_tests::test]
async fn the_drivers_figure_is_used_where_a_worker_reports_none() -> Result<()> {
    let server = GpuServer::with_gpus(&[10]).await?;
    let script = Script {
        hide_device_use: true,
        ..Script::on_device(2 * GIB)
    };
    server
        .try_load("m", server.scripted("m", "cuda", &script)?)
        .await?;
    let devices = server.devices_when(|devices| devices[0].memory_models_bytes > 0);
    assert_eq!(devices.await?[0].memory_models_bytes, 2 * GIB);
    Ok(())
}

#[hangar_tests::test]
async fn kv_cache_blocks_are_reported() -> Result<()> {
    let server = GpuServer::with_gpus(&[10]).await?;
    let script = Script {
        kv_blocks: (3, 512),
        ..Script::on_device(GIB)
    };
    server
        .try_load("m", server.scripted("m", "cuda", &script)?)
        .await?;
    let metrics = server.info_when("m", |info| {
        info.metrics
            .as_ref()
            .is_some_and(|metrics| metrics.kv_blocks_total > 0)
    });
    let metrics = metrics.await?.metrics.context("metrics")?;
    assert_eq!((metrics.kv_blocks_used, metrics.kv_blocks_total), (3, 512));
    let metrics = Metrics::of(server.ops_listen()).await?;
    let gauge = |name| metrics.value(name, &[("model", "m")]);
    assert_eq!(gauge("hangar_model_kv_blocks_used"), Some(3.0));
    assert_eq!(gauge("hangar_model_kv_blocks_total"), Some(512.0));
    Ok(())
}
