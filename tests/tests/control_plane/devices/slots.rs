//! How many models load at the same time on a device.

use anyhow::Result;
use hangar_client::v1::ModelState::{Loading, Pending, Ready};
use hangar_tests::{
    background::Background,
    scripted::{Gate, LoadScript, Script},
};

use super::server::{GIB, GpuServer};

/// Takes a GiB of its device, once its gate is open.
fn gated() -> Script {
    Script {
        need_device_bytes: GIB,
        load: LoadScript {
            gate: Some("load".to_owned()),
            device_bytes: GIB,
            ..LoadScript::default()
        },
        ..Script::default()
    }
}

#[hangar_tests::test]
async fn one_model_at_a_time_loads_on_a_device_and_devices_do_not_wait_for_each_other() -> Result<()>
{
    let server = GpuServer::with_gpus(&[10, 10]).await?;
    let spec = server.scripted("first", "cuda:0", &gated())?;
    let gate = Gate::new(&server.fixtures.directory("first")?, "load")?;
    let mut first = server.follow("first").await?;
    let loading = Background::start(server.client.load("first").spec(spec).wait());
    first.until(Loading).await?;
    let mut second = server.follow("second").await?;
    let spec = server.spec("second", "cuda:0", GIB)?;
    let waiting = Background::start(server.client.load("second").spec(spec).wait());
    second.until(Pending).await?;
    // Both of these come later and are served.
    server.load("other", "cuda:1", GIB).await?;
    server.load("cpu", "cpu", 0).await?;
    assert_eq!(server.status("second").await?.state(), Pending);
    gate.open()?;
    loading.end().await??;
    waiting.end().await??;
    second.until(Ready).await?;
    Ok(())
}

#[hangar_tests::test]
async fn an_unload_ends_the_wait_for_a_device() -> Result<()> {
    let server = GpuServer::with_gpus(&[10]).await?;
    let spec = server.scripted("first", "cuda", &gated())?;
    let gate = Gate::new(&server.fixtures.directory("first")?, "load")?;
    let mut first = server.follow("first").await?;
    let loading = Background::start(server.client.load("first").spec(spec).wait());
    first.until(Loading).await?;
    let mut second = server.follow("second").await?;
    let spec = server.spec("second", "cuda", GIB)?;
    let waiting = Background::start(server.client.load("second").spec(spec).wait());
    second.until(Pending).await?;
    server.client.unload("second").send().await?;
    assert!(waiting.end().await?.is_err());
    gate.open()?;
    loading.end().await??;
    server.client.load("second").wait().await?;
    Ok(())
}
