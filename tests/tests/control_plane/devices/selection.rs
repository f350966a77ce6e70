//! Which device a model gets.

use std::fs;

use anyhow::{Context, Result};
use futures::future::try_join;
use hangar_client::v1::ModelSpec;
use hangar_tests::{
    fixtures::Fixtures,
    refusals::wrong_fields,
    scripted::Script,
    server::{TestServer, spec},
};

use super::server::{GIB, GpuServer, pinned};

/// A variable of a process's environment.
fn variable(pid: u32, name: &str) -> Result<Option<String>> {
    let environment = fs::read(format!("/proc/{pid}/environ"))?;
    let start = format!("{name}=");
    let variables = environment.split(|byte| *byte == 0);
    let mut variables = variables.filter_map(|variable| std::str::from_utf8(variable).ok());
    Ok(variables.find_map(|variable| variable.strip_prefix(&start).map(ToOwned::to_owned)))
}

#[hangar_tests::test]
async fn a_model_gets_the_device_that_its_spec_names_and_sees_no_other() -> Result<()> {
    let server = GpuServer::with_gpus(&[10, 10]).await?;
    let second = server.gpus[1].uuid.clone();
    for (id, device) in [
        ("ordinal", "cuda:1".to_owned()),
        ("uuid", format!("cuda:{second}")),
    ] {
        let status = server.load(id, &device, GIB).await?;
        assert_eq!(server.place(id).await?, format!("cuda:{second}"));
        let shown = variable(status.worker_pid, "CUDA_VISIBLE_DEVICES")?;
        assert_eq!(shown.as_ref(), Some(&second));
        let order = variable(status.worker_pid, "CUDA_DEVICE_ORDER")?;
        assert_eq!(order.as_deref(), Some("PCI_BUS_ID"));
    }
    let on_cpu = server.load("cpu", "cpu", 0).await?;
    assert_eq!(server.place("cpu").await?, "cpu");
    assert_eq!(variable(on_cpu.worker_pid, "CUDA_VISIBLE_DEVICES")?, None);
    assert_eq!(on_cpu.memory.context("memory")?.device_bytes, 0);
    Ok(())
}

#[hangar_tests::test]
async fn auto_chooses_the_device_with_most_free_memory() -> Result<()> {
    let server = GpuServer::with_gpus(&[10, 12, 9]).await?;
    let place = |ordinal: usize| format!("cuda:{}", server.gpus[ordinal].uuid);
    server.load("a", "cuda", 5 * GIB).await?;
    assert_eq!(server.place("a").await?, place(1));
    server.load("b", "auto", 4 * GIB).await?;
    assert_eq!(server.place("b").await?, place(0));
    server.load("c", "", GIB).await?;
    assert_eq!(server.place("c").await?, place(2));
    // What others hold counts as much.
    server.driver.take(2, 6 * GIB)?;
    server.load("d", "cuda", GIB).await?;
    assert_eq!(server.place("d").await?, place(1));
    Ok(())
}

#[hangar_tests::test]
async fn loads_that_choose_at_the_same_time_do_not_choose_the_same() -> Result<()> {
    let server = GpuServer::with_gpus(&[10, 10]).await?;
    let load = async |id: &str| server.load(id, "cuda", 6 * GIB).await;
    try_join(load("a"), load("b")).await?;
    assert_ne!(server.place("a").await?, server.place("b").await?);
    Ok(())
}

#[hangar_tests::test]
async fn a_device_that_was_changed_holds_from_the_next_load_on() -> Result<()> {
    let server = GpuServer::with_gpus(&[10, 10]).await?;
    server.load("m", "cuda:0", GIB).await?;
    let moved = server.spec("m", "cuda:1", GIB)?;
    server
        .client
        .load("m")
        .spec(moved)
        .force_reload()
        .wait()
        .await?;
    let second = format!("cuda:{}", server.gpus[1].uuid);
    assert_eq!(server.place("m").await?, second);
    Ok(())
}

#[hangar_tests::test]
async fn without_a_worker_or_a_driver_for_gpus_auto_is_the_cpu() -> Result<()> {
    let server = GpuServer::with_gpus(&[]).await?;
    server.load("no-gpus", "auto", 0).await?;
    assert_eq!(server.place("no-gpus").await?, "cpu");

    let fixtures = Fixtures::new()?;
    let path = fixtures.scripted("m", &Script::default())?;
    let no_worker = TestServer::scripted()
        .fixtures(&fixtures)
        .with_driver(&server.driver);
    // Any program that can be executed.
    let no_driver = TestServer::scripted()
        .fixtures(&fixtures)
        .argument("--worker-cuda")
        .argument("/bin/sh");
    for options in [no_worker, no_driver] {
        let hangar = options.start().await?;
        let client = hangar.connect().await?;
        let spec = ModelSpec {
            device: "auto".to_owned(),
            ..spec(&path)
        };
        client.load("m").spec(spec).wait().await?;
        let info = client.info().model("m").send().await?;
        let metadata = info.models[0].metadata.as_ref();
        assert_eq!(metadata.context("metadata")?.device, "cpu");
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_malformed_device_is_refused_as_a_field() -> Result<()> {
    let server = GpuServer::with_gpus(&[10]).await?;
    for device in [
        "gpu",
        "CUDA",
        "cuda:",
        "cuda:-1",
        "cuda:00",
        "cuda:GPU-",
        "cuda:0,1",
    ] {
        let spec = server.spec("m", device, GIB)?;
        let refused = server.try_load("m", spec).await;
        assert_eq!(wrong_fields(refused), ["spec.device"], "{device}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_server_that_starts_again_finds_the_devices_for_what_was_loaded() -> Result<()> {
    let data = tempfile::tempdir()?;
    let server = GpuServer::with(&[10, 10], |options| options.data_in(data.path())).await?;
    let spec = pinned(server.spec("m", "cuda:1", GIB)?);
    server.try_load("m", spec).await?;
    let GpuServer {
        server,
        driver,
        gpus,
    } = server;
    let options = TestServer::scripted()
        .fixtures(&server.fixtures)
        .with_gpus(&driver)?
        .data_in(data.path());
    server.kill()?;
    let hangar = options.start().await?;
    let mut transitions = hangar.follow("m").await?;
    transitions
        .until(hangar_client::v1::ModelState::Ready)
        .await?;
    let info = hangar.connect().await?.info().model("m").send().await?;
    let metadata = info.models[0].metadata.clone().context("metadata")?;
    assert_eq!(metadata.device, format!("cuda:{}", gpus[1].uuid));
    Ok(())
}
