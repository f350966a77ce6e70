//! Who is let onto a device, and what those are told who are not.

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, ModelState, SuspendReason};
use hangar_tests::{refusals::refusal, scripted::Script};
use tonic::Code;

use crate::house::{GIB, House, hinted, pinned};

#[tokio::test]
async fn a_refusal_names_the_device_and_tells_the_numbers() -> Result<()> {
    let house = House::with_gpus(&[24, 10]).await?;
    let uuid = &house.gpus[1].uuid;
    house
        .try_load("a", pinned(house.spec("a", "cuda:1", 4 * GIB)?))
        .await?;
    let mut transitions = house.hangar.follow("b").await?;
    let refused = house
        .try_load("b", house.spec("b", "cuda:1", 6 * GIB)?)
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
    house.load("c", "cuda:1", 5 * GIB).await?;
    let elsewhere = house.spec("b", "cuda:0", 6 * GIB)?;
    house
        .client
        .load("b")
        .spec(elsewhere)
        .force_reload()
        .wait()
        .await?;
    Ok(())
}

#[tokio::test]
async fn what_other_processes_hold_is_not_given_away() -> Result<()> {
    let house = House::with_gpus(&[10]).await?;
    house.driver.take(0, 5 * GIB)?;
    let refused = house.try_load("m", house.spec("m", "cuda", 5 * GIB)?).await;
    let refused = refusal(
        refused,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    assert!(refused.message().contains("5.0 GiB is free"), "{refused}");
    house.driver.take(0, 4 * GIB)?;
    house.client.load("m").wait().await?;
    Ok(())
}

#[tokio::test]
async fn room_is_made_on_the_device_that_needs_it_and_nowhere_else() -> Result<()> {
    let house = House::with_gpus(&[10, 10]).await?;
    house.load("other", "cuda:1", 4 * GIB).await?;
    house.load("old", "cuda:0", 4 * GIB).await?;
    house.load("on-cpu", "cpu", 0).await?;
    house.load("new", "cuda:0", 4 * GIB).await?;
    house.load("newest", "cuda:0", 4 * GIB).await?;
    let evicted = house.info("old").await?;
    assert_eq!(evicted.suspend_reason(), SuspendReason::Evicted);
    let status = evicted.status.context("a status")?;
    for words in ["newest", "4.0 GiB", "device 0"] {
        assert!(status.message.contains(words), "{words}: {status:?}");
    }
    for id in ["other", "on-cpu", "new", "newest"] {
        assert_eq!(house.status(id).await?.state(), ModelState::Ready, "{id}");
    }
    Ok(())
}

#[tokio::test]
async fn what_the_operator_knows_of_a_need_counts() -> Result<()> {
    let house = House::with_gpus(&[10]).await?;
    let spec = hinted(house.spec("m", "cuda", GIB)?, 9 * GIB);
    let refused = house.try_load("m", spec).await;
    let refused = refusal(
        refused,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    assert!(refused.message().contains("9.0 GiB"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn what_a_model_held_on_a_device_is_what_it_needs_there() -> Result<()> {
    let house = House::with_gpus(&[10, 10]).await?;
    // It says that it needs little, and takes more.
    let greedy = Script {
        need_device_bytes: GIB,
        ..Script::on_device(5 * GIB)
    };
    let spec = house.scripted("m", "cuda:0", &greedy)?;
    house.try_load("m", spec.clone()).await?;
    house.client.unload("m").send().await?;
    let learned = house.info("m").await?.learned.context("facts")?;
    assert_eq!(learned.memory.context("memory")?.device_bytes, 5 * GIB);
    house.driver.take(0, 5 * GIB)?;
    let refused = house.client.load("m").wait().await;
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
    house.driver.take(1, 5 * GIB)?;
    let moved = hangar_client::v1::ModelSpec {
        device: "cuda:1".to_owned(),
        ..spec
    };
    house
        .client
        .load("m")
        .spec(moved)
        .force_reload()
        .wait()
        .await?;
    Ok(())
}

#[tokio::test]
async fn what_a_load_was_promised_is_not_given_twice() -> Result<()> {
    let house = House::with(&[10], |options| {
        options.argument("--max-concurrent-device-loads=2")
    });
    let house = house.await?;
    let gated = |bytes| Script {
        need_device_bytes: bytes,
        ..Script::gated()
    };
    let spec = house.scripted("a", "cuda", &gated(5 * GIB))?;
    let gate = hangar_tests::scripted::Gate::new(&house.fixtures.directory("a")?, "load")?;
    let mut first = house.hangar.follow("a").await?;
    let load = house.client.load("a").spec(pinned(spec)).wait();
    let load = hangar_tests::background::Background::start(load);
    first.until(ModelState::Loading).await?;
    // It holds nothing yet, and 6 GiB are promised.
    let mut second = house.hangar.follow("b").await?;
    let later = house
        .client
        .load("b")
        .spec(house.spec("b", "cuda", 4 * GIB)?);
    let later = hangar_tests::background::Background::start(later.wait());
    second.until(ModelState::Starting).await?;
    // The CPU does not wait for the device.
    house.load("c", "cpu", 0).await?;
    assert_eq!(house.status("b").await?.state(), ModelState::Starting);
    gate.open()?;
    load.end().await??;
    // It took nothing in the end, but nobody tells: what was promised stays promised.
    let refused = later.end().await?;
    refusal(
        refused,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    Ok(())
}
