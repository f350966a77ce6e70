//! In which order models come back.

use std::{collections::HashSet, time::Duration};

use anyhow::{Context, Result};
use hangar_client::{
    WatchEvent,
    v1::{ModelSpec, ModelState, RestartMode::OnFailure, SuspendReason},
};
use hangar_tests::{
    installation::Installation,
    scripted::{Gate, LoadScript, Script},
    server::{DEADLINE, TestServer, TestServerBuilder, restarting},
};
use tokio::time::timeout;

/// Id, required, preload, priority.
const MODELS: [(&str, bool, bool, i32); 6] = [
    ("a-used-first", false, false, 0),
    ("b-used-last", false, true, 0),
    ("c-important", false, false, 7),
    ("d-required", true, false, -3),
    ("e-required-more", true, false, -2),
    ("f-unimportant", false, true, -9),
];

/// What the models become READY in.
const ORDER: [&str; 6] = [
    "e-required-more",
    "d-required",
    "c-important",
    "b-used-last",
    "a-used-first",
    "f-unimportant",
];

fn one_at_a_time(options: TestServerBuilder) -> TestServerBuilder {
    options.argument("--max-concurrent-loads").argument("1")
}

/// Ids of models in the order in which they become READY. The first is held until all the others wait for its place.
async fn become_ready(server: &TestServer, gates: &[Gate]) -> Result<Vec<String>> {
    let mut watch = server.connect().await?.watch().stream();
    let mut waiting = HashSet::new();
    let mut ready = Vec::new();
    let follow = async {
        while ready.len() < MODELS.len() {
            let statuses = match watch.next().await.context("the watch ended")?? {
                WatchEvent::Snapshot { models, .. } => models,
                WatchEvent::Transition { status, .. } => vec![status],
                _ => continue,
            };
            for status in statuses {
                match status.state() {
                    ModelState::Ready => ready.push(status.model_id),
                    ModelState::Pending if status.model_id != ORDER[0] => {
                        waiting.insert(status.model_id);
                    }
                    _ => {}
                }
            }
            // An open gate stays open.
            if waiting.len() == ORDER.len() - 1 {
                gates.iter().try_for_each(Gate::open)?;
            }
        }
        Ok(ready)
    };
    timeout(DEADLINE, follow).await?
}

#[hangar_tests::test]
async fn required_models_come_first_then_priority_then_the_last_used() -> Result<()> {
    let installation = Installation::scripted()?;
    let server = installation.with(one_at_a_time).await?;
    let client = server.connect().await?;
    let mut gates = Vec::new();
    for (id, required, preload, priority) in MODELS {
        let directory = installation.model(id, &Script::gated())?;
        let spec = ModelSpec {
            required,
            preload,
            priority,
            ..restarting(&directory, OnFailure, 9)
        };
        client.load(id).spec(spec).wait().await?;
        client.generate(id).prompt("x").max_tokens(1).text().await?;
        gates.push(Gate::new(&directory, "load")?);
    }
    // What was used when is written down when a model goes.
    client.unload_all().force().send().await?;
    for (id, ..) in MODELS {
        client
            .load(id)
            .timeout(Duration::from_secs(300))
            .send()
            .await?;
    }
    installation.kill(server).await?;

    let server = installation.with(one_at_a_time).await?;
    assert_eq!(become_ready(&server, &gates).await?, ORDER);
    Ok(())
}

#[hangar_tests::test]
async fn a_required_model_that_is_declared_late_still_gets_its_memory() -> Result<()> {
    let installation = Installation::scripted()?;
    let taking = |die_on_attempts| Script {
        need_host_bytes: 100 << 20,
        load: LoadScript {
            memory_bytes: 100 << 20,
            ..LoadScript::default()
        },
        die_on_attempts,
        ..Script::default()
    };
    let server = installation.start().await?;
    let client = server.connect().await?;
    for (id, required, dies) in [("other", false, vec![]), ("required", true, vec![2])] {
        let spec = ModelSpec {
            required,
            ..restarting(&installation.model(id, &taking(dies))?, OnFailure, 9)
        };
        client.load(id).spec(spec).wait().await?;
    }
    installation.kill(server).await?;

    // Its first attempt of this life dies. Meanwhile the other one takes the place, and the room.
    let small = |options| {
        one_at_a_time(options)
            .argument("--memory-limit")
            .argument("150MiB")
    };
    let server = installation.with(small).await?;
    let mut other = server.follow("other").await?;
    server
        .follow("required")
        .await?
        .until(ModelState::Ready)
        .await?;
    let gone = other.until(ModelState::Unloaded).await?;
    assert_eq!(gone.suspend_reason(), SuspendReason::Evicted);
    Ok(())
}
