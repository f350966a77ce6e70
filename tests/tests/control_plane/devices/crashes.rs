//! What becomes of a device's memory when a worker dies.

use anyhow::Result;
use hangar_client::v1::{ErrorReason, ModelSpec, ModelState, RestartMode};
use hangar_tests::{
    background::Background, failpoints::Failpoints, processes, refusals::refusal, scripted::Script,
    server::restarting,
};
use rustix::process::Signal;
use tonic::Code;

use super::server::{GIB, GpuServer};

#[hangar_tests::test]
async fn the_device_memory_of_a_dead_worker_is_waited_for() -> Result<()> {
    let server = GpuServer::with_gpus(&[10]).await?;
    let dead = server.load("dead", "cuda", 5 * GIB).await?;
    let mut transitions = server.follow("dead").await?;
    // The driver is slow to see that the process is gone.
    server.driver.set(0, &server.gpus[0].without(5 * GIB))?;
    processes::signal(dead.worker_pid, Signal::KILL)?;
    while transitions.next().await?.state() != ModelState::Failed {}
    let mut next = server.follow("next").await?;
    let spec = server.spec("next", "cuda", 7 * GIB)?;
    let load = Background::start(server.client.load("next").spec(spec).wait());
    next.until(ModelState::Starting).await?;
    server.driver.set(0, &server.gpus[0])?;
    load.end().await??;
    Ok(())
}

#[hangar_tests::test]
async fn a_model_that_is_restarted_gets_its_memory_back() -> Result<()> {
    let server = GpuServer::with_gpus(&[10]).await?;
    let path = server.fixtures.scripted("m", &Script::on_device(6 * GIB))?;
    let spec = ModelSpec {
        device: "cuda".to_owned(),
        ..restarting(&path, RestartMode::OnFailure, 3)
    };
    let load = server.try_load("m", spec).await?;
    let pid = load
        .status
        .map(|status| status.worker_pid)
        .unwrap_or_default();
    let mut transitions = server.follow("m").await?;
    processes::signal(pid, Signal::KILL)?;
    while transitions.next().await?.state() != ModelState::Ready {}
    let status = server.status("m").await?;
    assert_eq!((status.restarts, status.state()), (1, ModelState::Ready));
    assert_ne!(status.worker_pid, pid);
    Ok(())
}

#[hangar_tests::test]
async fn a_wait_for_device_memory_that_panics_ends_and_nobody_waits_for_it() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = GpuServer::with(&[10], |options| options.failpoints(&failpoints)).await?;
    let dead = server.load("dead", "cuda", 5 * GIB).await?;
    let mut transitions = server.follow("dead").await?;
    server.driver.set(0, &server.gpus[0].without(5 * GIB))?;
    processes::signal(dead.worker_pid, Signal::KILL)?;
    while transitions.next().await?.state() != ModelState::Failed {}
    failpoints.panic("device-release")?;
    let spec = server.spec("next", "cuda", 7 * GIB)?;
    let load = || server.client.load("next").spec(spec.clone()).wait();
    refusal(
        load().await,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    let log = server.log()?;
    assert!(log.contains("device-release"), "{log}");
    server.driver.set(0, &server.gpus[0])?;
    load().await?;
    assert!(server.server.terminate().await?.success());
    Ok(())
}
