//! Who is let onto a device, and what others are answered.

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, ModelState, SuspendReason};
use hangar_tests::{refusals::refusal, scripted::Script};
use tonic::Code;

use super::server::{GIB, GpuServer, hinted, pinned};

#[hangar_tests::test]
async fn a_refusal_names_the_device_and_the_numbers() -> Result<()> {
    let server = GpuServer::with_gpus(&[24, 10]).await?;
    let uuid = &server.gpus[1].uuid;
    server
        .try_load("a", pinned(server.spec("a", "cuda:1", 4 * GIB)?))
        .await?;
    let mut transitions = server.follow("b").await?;
    let refused = server
        .try_load("b", server.spec("b", "cuda:1", 6 * GIB)?)
        .await;
    let refused = refusal(
        refused,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    let quota = refused.details().quotas.first().context("a QuotaFailure")?;
    assert_eq!(quota.subject, format!("memory of cuda:{uuid}"));
    for words in [
        "needs about 6.0 GiB",
        "7.2 GiB with headroom",
        "6.0 GiB is free",
        "would add 0 B",
        "device 1",
        uuid,
    ] {
        assert!(quota.description.contains(words), "{words}: {refused}");
    }
    while transitions.next().await?.state() != ModelState::Failed {}
    let failed = transitions.current().context("a status")?;
    assert_eq!(failed.reason, "INSUFFICIENT_MEMORY");
    // Nothing was taken for it, and there is room for it elsewhere.
    server.load("c", "cuda:1", 5 * GIB).await?;
    let elsewhere = server.spec("b", "cuda:0", 6 * GIB)?;
    server
        .client
        .load("b")
        .spec(elsewhere)
        .force_reload()
        .wait()
        .await?;
    Ok(())
}

#[hangar_tests::test]
async fn what_other_processes_hold_is_not_given_away() -> Result<()> {
    let server = GpuServer::with_gpus(&[10]).await?;
    server.driver.take(0, 5 * GIB)?;
    let refused = server
        .try_load("m", server.spec("m", "cuda", 5 * GIB)?)
        .await;
    let refused = refusal(
        refused,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    assert!(refused.message().contains("5.0 GiB is free"), "{refused}");
    server.driver.take(0, 4 * GIB)?;
    server.client.load("m").wait().await?;
    Ok(())
}

#[hangar_tests::test]
async fn models_are_evicted_only_from_the_device_that_needs_memory() -> Result<()> {
    let server = GpuServer::with_gpus(&[10, 10]).await?;
    server.load("other", "cuda:1", 4 * GIB).await?;
    server.load("old", "cuda:0", 4 * GIB).await?;
    server.load("on-cpu", "cpu", 0).await?;
    server.load("new", "cuda:0", 4 * GIB).await?;
    server.load("newest", "cuda:0", 4 * GIB).await?;
    let evicted = server.info("old").await?;
    assert_eq!(evicted.suspend_reason(), SuspendReason::Evicted);
    let status = evicted.status.context("a status")?;
    for words in ["newest", "4.0 GiB", "device 0"] {
        assert!(status.message.contains(words), "{words}: {status:?}");
    }
    for id in ["other", "on-cpu", "new", "newest"] {
        assert_eq!(server.status(id).await?.state(), ModelState::Ready, "{id}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_memory_hint_for_a_device_counts() -> Result<()> {
    let server = GpuServer::with_gpus(&[10]).await?;
    let spec = hinted(server.spec("m", "cuda", GIB)?, 9 * GIB);
    let refused = server.try_load("m", spec).await;
    let refused = refusal(
        refused,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    assert!(refused.message().contains("9.0 GiB"), "{refused}");
    Ok(())
}

#[hangar_tests::test]
async fn what_a_model_held_on_a_device_is_what_it_needs_there() -> Result<()> {
    let server = GpuServer::with_gpus(&[10, 10]).await?;
    // It says that it needs little, and takes more.
    let greedy = Script {
        need_device_bytes: GIB,
        ..Script::on_device(5 * GIB)
    };
    let spec = server.scripted("m", "cuda:0", &greedy)?;
    server.try_load("m", spec.clone()).await?;
    server.client.unload("m").send().await?;
    let learned = server.info("m").await?.learned.context("facts")?;
    assert_eq!(learned.memory.context("memory")?.device_bytes, 5 * GIB);
    server.driver.take(0, 5 * GIB)?;
    let refused = server.client.load("m").wait().await;
    let refused = refusal(
        refused,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    assert!(
        refused.message().contains("needs about 5.0 GiB"),
        "{refused}"
    );
    // Of another device nothing is known but what the worker says.
    server.driver.take(1, 5 * GIB)?;
    let moved = hangar_client::v1::ModelSpec {
        device: "cuda:1".to_owned(),
        ..spec
    };
    server
        .client
        .load("m")
        .spec(moved)
        .force_reload()
        .wait()
        .await?;
    Ok(())
}

#[hangar_tests::test]
async fn memory_reserved_for_a_load_is_not_given_twice() -> Result<()> {
    let server = GpuServer::with(&[10], |options| {
        options.argument("--max-concurrent-device-loads=2")
    });
    let server = server.await?;
    let gated = |bytes| Script {
        need_device_bytes: bytes,
        ..Script::gated()
    };
    let spec = server.scripted("a", "cuda", &gated(5 * GIB))?;
    let gate = hangar_tests::scripted::Gate::new(&server.fixtures.directory("a")?, "load")?;
    let mut first = server.follow("a").await?;
    let load = server.client.load("a").spec(pinned(spec)).wait();
    let load = hangar_tests::background::Background::start(load);
    first.until(ModelState::Loading).await?;
    // It holds nothing yet, and 6 GiB are promised.
    let mut second = server.follow("b").await?;
    let later = server
        .client
        .load("b")
        .spec(server.spec("b", "cuda", 4 * GIB)?);
    let later = hangar_tests::background::Background::start(later.wait());
    second.until(ModelState::Starting).await?;
    // The CPU does not wait for the device.
    server.load("c", "cpu", 0).await?;
    assert_eq!(server.status("b").await?.state(), ModelState::Starting);
    gate.open()?;
    load.end().await??;
    // It took nothing in the end, but nobody says so: what was promised stays promised.
    let refused = later.end().await?;
    refusal(
        refused,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    Ok(())
}
