//! Processes and memory, seen from outside: what an unload gives back, and what stays behind.

use anyhow::{Context, Result};
use futures::future::try_join_all;
use hangar_client::v1::{ModelUnload, UnloadVerification};
use hangar_tests::{
    fixtures::{Fixtures, Quantization},
    metrics::Metrics,
    processes,
    scripted::{LoadScript, Script},
    server::{DEADLINE, TestServer, spec},
};

use super::greedy;

/// Resident memory that the server may gain in 40 cycles: less than one page a cycle and allocation.
const GROWTH: u64 = 2 << 20;

/// Resident memory that a server without a loaded model may have, file pages included.
const AT_REST: u64 = 30_000_000;

/// Unloads a model and compares what it says with a look at its worker just before.
async fn unload(server: &TestServer, model: &str, worker: u32) -> Result<ModelUnload> {
    let held = processes::host_bytes(worker)?;
    let unload = server.connect().await?.unload(model).send().await?;
    assert!(!processes::exists(worker));
    assert_eq!(unload.verification(), UnloadVerification::Reaped);
    let off = unload.host_bytes_freed.abs_diff(held);
    assert!(
        off * 10 <= held,
        "{} said, {held} seen",
        unload.host_bytes_freed
    );
    Ok(unload)
}

#[hangar_tests::test]
async fn an_unload_frees_the_memory_that_proc_showed() -> Result<()> {
    let script = Script {
        load: LoadScript {
            memory_bytes: 100 << 20,
            ..LoadScript::default()
        },
        ..Script::default()
    };
    let server = TestServer::scripted().script(&script).start().await?;
    let worker = server.ready().await?.worker_pid;
    let unload = unload(&server, "m", worker).await?;
    assert!(unload.host_bytes_freed > 100 << 20);
    Ok(())
}

#[hangar_tests::test]
async fn two_models_live_in_two_processes() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let models = [
        ("safetensors", fixtures.qwen3()?),
        ("gguf", fixtures.llama_gguf(Quantization::Q8_0)?),
    ];
    let loads = models
        .each_ref()
        .map(|(id, path)| client.load(*id).spec(spec(path)).wait());
    let loads = try_join_all(loads).await?;
    let workers: Vec<_> = loads
        .iter()
        .filter_map(|load| load.status.as_ref().map(|status| status.worker_pid))
        .collect();
    let mut children = processes::children(server.pid())?;
    children.sort_unstable();
    let mut sorted = workers.clone();
    sorted.sort_unstable();
    assert_eq!(children, sorted);
    let alone = greedy(&client, "gguf", "Hello").await?;
    let together = ["safetensors", "gguf"].map(|id| greedy(&client, id, "Hello"));
    let together = try_join_all(together).await?;
    assert_eq!(together[1], alone);
    assert_ne!(together[0], alone);
    unload(&server, "safetensors", workers[0]).await?;
    assert_eq!(greedy(&client, "gguf", "Hello").await?, alone);
    unload(&server, "gguf", workers[1]).await?;
    assert!(processes::children(server.pid())?.is_empty());
    server.terminate().await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_server_at_rest_holds_less_than_thirty_megabytes() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    let resident = || processes::resident_bytes(server.pid());
    let started = resident()?;
    for id in 0..100 {
        server
            .client
            .create_model(format!("m{id}"), server.spec())
            .send()
            .await?;
    }
    server.client.info().send().await?;
    Metrics::of(server.ops_listen()).await?;
    let used = resident()?;
    println!("resident after the start {started}, with 100 models in the catalog {used} bytes");
    assert!(started.max(used) < AT_REST, "{started}, then {used} bytes");
    Ok(())
}

/// Sockets and other files that the server keeps while it runs.
fn runtime_files(server: &TestServer) -> Result<usize> {
    Ok(std::fs::read_dir(server.data_dir().join("run"))?.count())
}

#[hangar_tests::test]
async fn fifty_cycles_leave_nothing_behind_in_the_server() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.llama()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let before = runtime_files(&server)?;
    let cycle = async || {
        let load = client.load("m").spec(spec(&path)).wait().await?;
        let worker = load.status.context("a status")?.worker_pid;
        greedy(&client, "m", "Hello").await?;
        client.unload("m").send().await?;
        anyhow::ensure!(!processes::exists(worker), "worker {worker} is still there");
        Ok(())
    };
    for _ in 0..10 {
        cycle().await?;
    }
    let files = processes::open_files(server.pid())?;
    let memory = processes::host_bytes(server.pid())?;
    for _ in 0..40 {
        cycle().await?;
    }
    assert!(processes::children(server.pid())?.is_empty());
    assert_eq!(runtime_files(&server)?, before);
    processes::eventually("as many descriptors as before", DEADLINE, || {
        processes::open_files(server.pid())
            .ok()
            .filter(|now| *now <= files)
    })
    .await?;
    let grown = processes::host_bytes(server.pid())?.saturating_sub(memory);
    assert!(grown < GROWTH, "the server grew by {grown} bytes");
    Ok(())
}
