//! Who is let in, and what others are answered.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::join;
use hangar_client::v1::{ErrorReason, MemoryHint, ModelSpec, ModelState::Failed};
use hangar_tests::{
    installation::Installation,
    refusals::refusal,
    scripted::{LoadScript, Script},
    server::{DEADLINE, TestServer, TestServerBuilder, spec},
};
use tokio::time::timeout;
use tonic::Code;

use super::server::MemoryServer;

const MIB: u64 = 1 << 20;

/// Shorter than anything that a load may wait for.
const WAIT: Duration = Duration::from_millis(700);

/// A tiny model that nothing may evict.
fn pinned(spec: ModelSpec) -> ModelSpec {
    ModelSpec {
        pinned: true,
        ..spec
    }
}

/// Has loads of `c` refused until one is so within `limit`: what is refused does not keep its place among the loads for
/// long, and what it waits for it waits for each time.
async fn refuse_within(server: &MemoryServer, limit: Duration) -> Result<()> {
    let refusals = async {
        loop {
            let began = Instant::now();
            assert!(server.client.load("c").wait().await.is_err());
            if began.elapsed() < limit {
                return;
            }
        }
    };
    let refused = timeout(DEADLINE, refusals).await;
    refused.with_context(|| format!("no load was refused within {limit:?}"))
}

#[hangar_tests::test]
async fn a_refusal_has_the_numbers_and_leaves_other_models_alone() -> Result<()> {
    let server = MemoryServer::for_units(2.6).await?;
    let client = &server.client;
    let mut before = Vec::new();
    let mut load_time = Duration::ZERO;
    for id in ["a", "b"] {
        let began = Instant::now();
        let load = client.load(id).spec(pinned(server.spec()?)).wait().await?;
        load_time = load_time.max(began.elapsed());
        before.push((
            load.status.context("a status")?.worker_pid,
            server.touch(id).await?,
        ));
    }
    let mut transitions = server.follow("c").await?;
    let refused = client.load("c").spec(server.spec()?).wait().await;
    let refused = refusal(
        refused,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    let quota = refused.details().quotas.first().context("a QuotaFailure")?;
    assert_eq!(quota.subject, "host memory");
    for words in [
        "needs about",
        "with headroom",
        "is free",
        "evicting idle models would add 0 B",
    ] {
        assert!(quota.description.contains(words), "{words}: {refused}");
    }
    while transitions.next().await?.state() != Failed {}
    let failed = transitions.current().context("a status")?;
    assert_eq!(failed.reason, "INSUFFICIENT_MEMORY");
    assert!(failed.worker_pid == 0 && failed.next_retry_time.is_none());
    for (id, (pid, said)) in ["a", "b"].into_iter().zip(before) {
        assert_eq!(server.status(id).await?.worker_pid, pid);
        assert_eq!(server.touch(id).await?, said);
    }
    // A load that is refused begins as one that is not, and waits for nothing.
    refuse_within(&server, load_time + WAIT).await?;
    // With room there is no further obstacle.
    client.unload("a").send().await?;
    client.load("c").wait().await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_memory_hint_counts() -> Result<()> {
    let server = MemoryServer::for_units(2.6).await?;
    let client = &server.client;
    let greedy = server.needing(server.unit * 5 / 2)?;
    let refused = client.load("m").spec(greedy.clone()).wait().await;
    refusal(
        refused,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    let modest = server.needing(server.unit * 2)?;
    client.load("m").spec(modest).force_reload().wait().await?;
    let pid = server.status("m").await?.worker_pid;
    let refused = client.load("m").spec(greedy).force_reload().wait().await;
    refusal(
        refused,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    assert_eq!(server.status("m").await?.worker_pid, pid, "it serves on");
    Ok(())
}

#[hangar_tests::test]
async fn measured_memory_counts_at_the_next_load() -> Result<()> {
    let installation = Installation::scripted()?;
    let script = Script {
        need_host_bytes: 10 * MIB,
        load: LoadScript {
            memory_bytes: 100 * MIB,
            ..LoadScript::default()
        },
        ..Script::default()
    };
    let path = installation.model("m", &script)?;
    let limit = |options: TestServerBuilder| options.argument("--memory-limit").argument("110MiB");
    let server = installation.with(limit).await?;
    let client = server.connect().await?;
    client.load("m").spec(spec(&path)).wait().await?;
    client.unload("m").send().await?;
    let refused = client.load("m").wait().await;
    let refused = refusal(
        refused,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    assert!(refused.message().contains("needs about 10"), "{refused}");
    // What was learned of another build of the model says nothing of this one.
    let other = ModelSpec {
        context_length: 77,
        ..spec(&path)
    };
    client.load("m").spec(other).force_reload().wait().await?;
    Ok(())
}

#[hangar_tests::test]
async fn two_loads_are_not_both_let_in_on_the_same_memory() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .argument("--memory-limit")
        .argument("200MiB")
        .start()
        .await?;
    let script = Script {
        need_host_bytes: 100 * MIB,
        load: LoadScript {
            memory_bytes: 100 * MIB,
            ..LoadScript::default()
        },
        ..Script::default()
    };
    let loads = ["one", "two"].map(|id| {
        let directory = server.fixtures.scripted(id, &script);
        let client = server.client.clone();
        async move {
            let spec = pinned(spec(&directory?));
            anyhow::Ok(client.load(id).spec(spec).wait().await)
        }
    });
    let [one, two] = loads;
    let (one, two) = join(one, two).await;
    let (one, two) = (one?, two?);
    assert_ne!(one.is_ok(), two.is_ok(), "{one:?} {two:?}");
    let refused = if one.is_ok() { two } else { one };
    refusal(
        refused,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_load_waits_for_what_another_load_leaves_over() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .argument("--memory-limit")
        .argument("200MiB")
        .start()
        .await?;
    // It says to need far more than it takes.
    let first = Script {
        need_host_bytes: 150 * MIB,
        ..Script::gated()
    };
    let second = Script {
        need_host_bytes: 100 * MIB,
        ..Script::default()
    };
    let directory = server.fixtures.scripted("first", &first)?;
    let gate = hangar_tests::scripted::Gate::new(&directory, "load")?;
    let mut transitions = server.follow("first").await?;
    let spec_of_first = pinned(spec(&directory));
    server
        .client
        .load("first")
        .spec(spec_of_first)
        .send()
        .await?;
    transitions
        .until(hangar_client::v1::ModelState::Loading)
        .await?;
    let directory = server.fixtures.scripted("second", &second)?;
    let mut waits = server.follow("second").await?;
    server
        .client
        .load("second")
        .spec(spec(&directory))
        .send()
        .await?;
    waits.until(hangar_client::v1::ModelState::Starting).await?;
    gate.step(1)?;
    waits.until(hangar_client::v1::ModelState::Ready).await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_need_that_no_eviction_can_meet_evicts_nobody() -> Result<()> {
    let server = MemoryServer::for_units(2.6).await?;
    server.load_all(["a", "b"]).await?;
    let spec = ModelSpec {
        memory_hint: Some(MemoryHint {
            host_bytes: server.unit * 3,
            device_bytes: 0,
        }),
        ..server.spec()?
    };
    let refused = server.client.load("huge").spec(spec).wait().await;
    let refused = refusal(
        refused,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    assert!(!refused.message().contains("would add 0 B"), "{refused}");
    assert_eq!(server.ready().await?, ["a", "b"]);
    Ok(())
}
