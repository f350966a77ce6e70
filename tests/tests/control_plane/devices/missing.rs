//! What is said when the driver, a library, the worker or the device is missing.

use std::path::Path;

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, ModelSpec, ModelState};
use hangar_tests::{
    fixtures::Fixtures,
    nvml_stub::{self, Gpu, GpuDriver},
    refusals::refusal,
    scripted::Script,
    server::{TestServer, TestServerBuilder, restarting, spec},
};
use tonic::Code;

/// Loads a model on `device`, which fails at once and for good, and says why: what is missing, and in words.
async fn refused(
    options: TestServerBuilder,
    path: &Path,
    device: &str,
) -> Result<(String, String)> {
    let server = options.start().await?;
    let client = server.connect().await?;
    let restarts = hangar_client::v1::RestartMode::OnFailure;
    let spec = ModelSpec {
        device: device.to_owned(),
        ..restarting(path, restarts, 5)
    };
    let refused = client.load("m").spec(spec).wait().await;
    let refused = refusal(
        refused,
        Code::FailedPrecondition,
        ErrorReason::DeviceUnavailable,
    );
    let info = client.info().model("m").send().await?;
    let status = info.models[0].status.clone().context("a status")?;
    assert_eq!(status.state(), ModelState::Failed);
    assert_eq!(status.reason, "DEVICE_UNAVAILABLE");
    assert_eq!((status.attempt, status.restarts), (1, 0), "{status:?}");
    assert!(refused.message().starts_with(&status.message), "{refused}");
    let missing = refused.details().preconditions.first();
    let missing = missing.context("a PreconditionFailure")?.subject.clone();
    Ok((missing, status.message))
}

fn assert_contains(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{word}: {message}");
    }
}

#[hangar_tests::test]
async fn a_missing_driver_is_named() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.scripted("m", &Script::default())?;
    // Any program that can be executed: it is not started.
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .argument("--worker-cuda")
        .argument("/bin/sh");
    for device in ["cuda", "cuda:0"] {
        let (missing, message) = refused(options.clone(), &path, device).await?;
        assert_eq!(missing, "libnvidia-ml.so.1");
        assert_contains(
            &message,
            &["driver is missing", "libnvidia-ml.so.1", "install"],
        );
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_library_without_its_driver_is_a_missing_driver() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.scripted("m", &Script::default())?;
    let driver = GpuDriver::new(&[Gpu::of_gib(0, 10)])?;
    driver.refuse(nvml_stub::DRIVER_NOT_LOADED)?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .with_gpus(&driver)?;
    let (missing, message) = refused(options.clone(), &path, "cuda").await?;
    assert_eq!(missing, "libnvidia-ml.so.1");
    assert_contains(&message, &["driver is missing", "install"]);
    let server = options.start().await?;
    let client = server.connect().await?;
    client.load("m").spec(spec(&path)).wait().await?;
    let info = client.info().model("m").send().await?;
    let metadata = info.models[0].metadata.as_ref();
    assert_eq!(metadata.context("metadata")?.device, "cpu");
    Ok(())
}

#[hangar_tests::test]
async fn a_driver_that_does_not_work_is_reported_and_not_passed_over() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.scripted("m", &Script::default())?;
    let driver = GpuDriver::new(&[Gpu::of_gib(0, 10)])?;
    driver.refuse(nvml_stub::UNKNOWN_ERROR)?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .with_gpus(&driver)?;
    // A GPU that is wanted by default is not silently a CPU.
    for device in ["cuda", "auto"] {
        let (missing, message) = refused(options.clone(), &path, device).await?;
        assert_eq!(missing, "libnvidia-ml.so.1");
        assert_contains(&message, &["does not work", "nvidia-smi"]);
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_missing_worker_is_named() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.scripted("m", &Script::default())?;
    let driver = GpuDriver::new(&[Gpu::of_gib(0, 10)])?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .with_driver(&driver);
    let (missing, message) = refused(options, &path, "cuda").await?;
    assert_eq!(missing, "hangar-worker-cuda");
    assert_contains(&message, &["beside hangar", "--worker-cuda"]);
    Ok(())
}

#[hangar_tests::test]
async fn a_device_that_is_not_there_is_named_with_those_that_are() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.scripted("m", &Script::default())?;
    let gpus = [Gpu::of_gib(0, 10), Gpu::of_gib(1, 24)];
    let driver = GpuDriver::new(&gpus)?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .with_gpus(&driver)?;
    let unknown = format!("cuda:{}", Gpu::of_gib(9, 1).uuid);
    for device in ["cuda:2", &unknown] {
        let (missing, message) = refused(options.clone(), &path, device).await?;
        assert_eq!(missing, device);
        assert_contains(
            &message,
            &[device, "there are 2", &gpus[0].uuid, &gpus[1].name],
        );
    }
    let nothing = GpuDriver::new(&[])?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .with_gpus(&nothing)?;
    let (missing, message) = refused(options, &path, "cuda").await?;
    assert_eq!(missing, "cuda");
    assert_contains(&message, &["knows no device"]);
    Ok(())
}

#[hangar_tests::test]
async fn a_library_that_the_worker_needs_is_named_and_nothing_is_tried_again() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.scripted("m", &Script::default())?;
    let driver = GpuDriver::new(&[Gpu::of_gib(0, 10)])?;
    for (library, advice) in [
        ("libcudart.so.13", "LD_LIBRARY_PATH"),
        ("libcuda.so.1", "driver"),
    ] {
        // A real program that the real loader does not start.
        let worker = fixtures.outside().join(format!("needs-{library}"));
        nvml_stub::program(&worker, library)?;
        let options = TestServer::scripted()
            .fixtures(&fixtures)
            .with_driver(&driver)
            .argument("--worker-cuda")
            .argument(&worker);
        let (missing, message) = refused(options, &path, "cuda").await?;
        assert_eq!(missing, library);
        assert_contains(&message, &[library, "missing", advice]);
    }
    Ok(())
}

#[hangar_tests::test]
async fn the_cpu_needs_neither_driver_nor_cuda_worker() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.scripted("m", &Script::default())?;
    let server = TestServer::scripted().fixtures(&fixtures).start().await?;
    let spec = ModelSpec {
        device: "cpu".to_owned(),
        ..spec(&path)
    };
    server.connect().await?.load("m").spec(spec).wait().await?;
    Ok(())
}
