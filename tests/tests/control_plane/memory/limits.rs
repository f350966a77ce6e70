//! A worker that takes more than it was given: it fails, and nobody else does.

use anyhow::{Context, Result};
use hangar_client::v1::{
    ErrorReason,
    ModelState::{Failed, Ready},
    RestartMode::OnFailure,
};
use hangar_tests::{
    fixtures::Quantization,
    refusals::refusal,
    scripted::{LoadScript, Script},
    server::{TestServer, restarting, spec},
};
use procfs::process::{LimitValue, Process};
use tonic::Code;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn data_limit(pid: u32) -> Result<u64> {
    let limits = Process::new(i32::try_from(pid)?)?.limits()?;
    let (soft, hard) = (
        limits.max_data_size.soft_limit,
        limits.max_data_size.hard_limit,
    );
    match (soft, hard) {
        (LimitValue::Value(soft), LimitValue::Value(hard)) if soft == hard => Ok(soft),
        other => anyhow::bail!("no limit: {other:?}"),
    }
}

#[hangar_tests::test]
async fn a_worker_is_limited_to_what_was_admitted_and_is_the_first_to_be_killed() -> Result<()> {
    let fixtures = hangar_tests::fixtures::Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    for (id, path) in [
        ("st", fixtures.llama()?),
        ("gguf", fixtures.llama_gguf(Quantization::Q8_0)?),
    ] {
        let load = client.load(id).spec(spec(&path)).wait().await?;
        let pid = load.status.context("a status")?.worker_pid;
        let limit = data_limit(pid)?;
        assert!((64 * MIB..2 * GIB).contains(&limit), "{limit}");
        let adj = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj"))?;
        assert_eq!(adj.trim(), "1000");
        // It has enough for all that it is made for.
        let answer = client.generate(id).prompt("x".repeat(200)).max_tokens(40);
        answer.text().await?;
    }
    let own = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", server.pid()))?;
    assert_ne!(own.trim(), "1000");
    assert!(
        data_limit(server.pid()).is_err(),
        "the server itself is not limited"
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_load_that_takes_more_than_was_admitted_fails_alone() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script {
            need_host_bytes: 10 * MIB,
            load: LoadScript {
                memory_bytes: 2 * GIB,
                ..LoadScript::default()
            },
            ..Script::default()
        })
        .start()
        .await?;
    let neighbour = server.fixtures.scripted("neighbour", &Script::default())?;
    let load = server
        .client
        .load("neighbour")
        .spec(spec(&neighbour))
        .wait()
        .await?;
    let pid = load.status.context("a status")?.worker_pid;
    let mut transitions = server.follow("m").await?;
    let spec = restarting(&server.directory, OnFailure, 5);
    let load = server.client.load("m").spec(spec).wait().await;
    let refused = refusal(
        load,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    for words in ["more memory than it was admitted with", "memory_hint"] {
        assert!(refused.message().contains(words), "{refused}");
    }
    while transitions.next().await?.state() != Failed {}
    let failed = transitions.current().context("a status")?;
    // Another attempt would end in the same way.
    assert_eq!(
        (failed.reason.as_str(), failed.attempt),
        ("INSUFFICIENT_MEMORY", 1)
    );
    let status = server.follow("neighbour").await?;
    let status = status.current().context("a status")?;
    assert_eq!((status.state(), status.worker_pid), (Ready, pid));
    server
        .client
        .generate("neighbour")
        .prompt("x")
        .max_tokens(2)
        .text()
        .await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_hint_raises_the_limit() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script {
            need_host_bytes: 10 * MIB,
            load: LoadScript {
                memory_bytes: 800 * MIB,
                ..LoadScript::default()
            },
            ..Script::default()
        })
        .start()
        .await?;
    let load = server.load_m().wait().await;
    refusal(
        load,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    let spec = hangar_client::v1::ModelSpec {
        memory_hint: Some(hangar_client::v1::MemoryHint {
            host_bytes: 900 * MIB,
            device_bytes: 0,
        }),
        ..server.spec()
    };
    let load = server
        .client
        .load("m")
        .spec(spec)
        .force_reload()
        .wait()
        .await?;
    let held = load.status.context("a status")?.memory.context("memory")?;
    assert!(held.host_bytes > 800 * MIB);
    Ok(())
}

#[hangar_tests::test]
async fn learned_memory_does_not_lower_the_limit() -> Result<()> {
    let taking = |bytes| Script {
        need_host_bytes: 900 * MIB,
        load: LoadScript {
            memory_bytes: bytes,
            ..LoadScript::default()
        },
        ..Script::default()
    };
    let server = TestServer::scripted()
        .script(&taking(10 * MIB))
        .start()
        .await?;
    server.ready().await?;
    server.client.unload("m").send().await?;
    // It held little in its first life, and comes to need what it said from the beginning.
    taking(800 * MIB).write(&server.directory)?;
    let held = server.ready().await?.memory.context("memory")?;
    assert!(held.host_bytes > 800 * MIB);
    Ok(())
}
