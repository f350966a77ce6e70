//! Engines that make no step any more, and those that only seem to.

use std::{convert::Infallible, time::Duration};

use anyhow::{Context, Result};
use hangar_client::{
    GenerateEvent,
    v1::{
        ErrorReason,
        ModelState::{self, Backoff, Draining, Failed, Ready},
        RestartMode::OnFailure,
    },
};
use hangar_tests::{
    background::Background,
    failpoints::Failpoints,
    processes,
    refusals::refusal,
    scripted::{Fault, GenerateScript, Script, ScriptedEvent},
    server::{DEADLINE, NEVER, TestServer, Transitions, restarting},
};
use rustix::process::Signal;
use tokio::time::timeout;
use tonic::Code;

use super::{chunk, end};

const LIMIT: Duration = Duration::from_millis(1500);

/// A limit that an engine does not reach that only waits for a while, on a busy machine too.
const LONGER: Duration = Duration::from_secs(4);

fn hangs_after(tokens: u32) -> GenerateScript {
    GenerateScript {
        hang_after: Some(tokens),
        ..GenerateScript::default()
    }
}

/// A READY model that is restarted after faults, and whose limit for hangs is short.
async fn server(script: &Script) -> Result<(TestServer, Transitions)> {
    server_within(LIMIT, script).await
}

/// As [`server`], with this limit.
async fn server_within(limit: Duration, script: &Script) -> Result<(TestServer, Transitions)> {
    let server = TestServer::scripted()
        .script(script)
        .time("--hang-timeout", limit)
        .start()
        .await?;
    let transitions = server.ready_with_restarts(5).await?;
    Ok((server, transitions))
}

async fn assert_hang_is_cured(script: &Script) -> Result<()> {
    let (server, mut transitions) = server(script).await?;
    let worker = transitions.current().map_or(0, |status| status.worker_pid);
    let mut answer = server.client.generate("m").prompt("x").stream().await?;
    assert_eq!(chunk(&mut answer).await?, "t0 ");
    assert_eq!(chunk(&mut answer).await?, "t1 ");
    let hung = refusal(
        timeout(DEADLINE, end(&mut answer)).await?,
        Code::Unavailable,
        ErrorReason::WorkerHung,
    );
    assert!(hung.details().retry_after.is_some());
    let backoff = transitions.next().await?;
    assert_eq!(
        (backoff.state(), backoff.reason.as_str()),
        (Backoff, "WORKER_HUNG")
    );
    assert!(!processes::exists(worker));
    let ready = transitions.until(Ready).await?;
    assert_eq!(ready.restarts, 1);
    Ok(())
}

#[hangar_tests::test]
async fn a_hang_in_an_answer_ends_it_and_the_worker_is_replaced() -> Result<()> {
    assert_hang_is_cured(&Script::generating(hangs_after(2))).await
}

#[hangar_tests::test]
async fn a_stopped_worker_is_a_hang() -> Result<()> {
    let script = Script {
        generate: GenerateScript {
            die_after: Some(2),
            ..GenerateScript::default()
        },
        die_with: Fault::Stop,
        ..Script::default()
    };
    assert_hang_is_cured(&script).await
}

#[hangar_tests::test]
async fn a_hang_is_noticed_although_the_caller_never_reads() -> Result<()> {
    let (server, mut transitions) = server(&Script::generating(hangs_after(2))).await?;
    let _answer = server.client.generate("m").prompt("x").stream().await?;
    assert_eq!(transitions.next().await?.reason, "WORKER_HUNG");
    transitions.until(Ready).await?;
    Ok(())
}

/// Makes sure that the model hung and is READY again.
async fn assert_was_replaced(transitions: &mut Transitions) -> Result<()> {
    let backoff = timeout(DEADLINE, transitions.next()).await??;
    assert_eq!(
        (backoff.state(), backoff.reason.as_str()),
        (Backoff, "WORKER_HUNG")
    );
    assert_eq!(transitions.until(Ready).await?.restarts, 1);
    Ok(())
}

async fn again_and_again(ask: impl AsyncFn()) -> Infallible {
    loop {
        ask().await;
    }
}

#[hangar_tests::test]
async fn callers_that_give_up_sooner_than_the_limit_hide_no_hang() -> Result<()> {
    let (server, mut transitions) = server(&Script::generating(hangs_after(0))).await?;
    let ask = async || {
        let request = server.client.generate("m").prompt("x").timeout(LIMIT / 3);
        // It ends by its deadline, and once the hang was found by that.
        let _ = request.text().await;
    };
    tokio::select! {
        never = again_and_again(ask) => match never {},
        replaced = assert_was_replaced(&mut transitions) => replaced,
    }
}

#[hangar_tests::test]
async fn calls_that_the_engine_has_no_part_in_hide_no_hang() -> Result<()> {
    let script = Script {
        tokenize_work_ms: 50,
        ..Script::generating(hangs_after(1))
    };
    let (server, mut transitions) = server(&script).await?;
    let _answer = server.client.generate("m").prompt("x").stream().await?;
    let ask = async || {
        // It is answered until the hang was found.
        let _ = server.client.tokenize("m", "x").send().await;
    };
    tokio::select! {
        never = again_and_again(ask) => match never {},
        replaced = assert_was_replaced(&mut transitions) => replaced,
    }
}

#[hangar_tests::test]
async fn a_stopped_worker_is_a_hang_although_nobody_waits_for_it() -> Result<()> {
    let (_server, mut transitions) = server(&Script::default()).await?;
    let worker = transitions.current().map_or(0, |status| status.worker_pid);
    processes::signal(worker, Signal::STOP)?;
    assert_was_replaced(&mut transitions).await?;
    assert!(!processes::exists(worker));
    Ok(())
}

#[hangar_tests::test]
async fn a_server_that_was_stopped_with_its_worker_saw_no_hang() -> Result<()> {
    let script = Script::generating(GenerateScript {
        gate: Some("token".into()),
        ..GenerateScript::default()
    });
    let limit = Duration::from_secs(8);
    let (server, mut transitions) = server_within(limit, &script).await?;
    let gate = server.gate("token")?;
    let mut events = server.events()?;
    let worker = transitions.current().map_or(0, |status| status.worker_pid);
    let answer = server.client.generate("m").prompt("x").max_tokens(1).text();
    let answer = Background::start(answer);
    timeout(DEADLINE, events.until(ScriptedEvent::Generate)).await??;
    server.signal(Signal::STOP)?;
    processes::signal(worker, Signal::STOP)?;
    let stopped = timeout(limit + Duration::from_secs(1), transitions.next()).await;
    assert!(stopped.is_err(), "{stopped:?}");
    server.signal(Signal::CONT)?;
    // It looks at the worker, which is still stopped, several times.
    let seen = timeout(limit / 4, transitions.next()).await;
    assert!(seen.is_err(), "{seen:?}");
    gate.open()?;
    processes::signal(worker, Signal::CONT)?;
    assert_eq!(answer.end().await??.text, "t0 ");
    let status = server.info().await?.status.context("a status")?;
    assert_eq!((status.worker_pid, status.restarts), (worker, 0));
    Ok(())
}

#[hangar_tests::test]
async fn a_hang_while_draining_ends_the_drain() -> Result<()> {
    let (server, mut transitions) = server(&Script::generating(hangs_after(1))).await?;
    let mut answer = server.client.generate("m").prompt("x").stream().await?;
    chunk(&mut answer).await?;
    let unload = server
        .client
        .unload("m")
        .drain_timeout(Duration::from_secs(50));
    let (unload, hung) = tokio::join!(unload.send(), end(&mut answer));
    refusal(hung, Code::Unavailable, ErrorReason::WorkerHung);
    let unload = unload?;
    assert!(unload.was_loaded && unload.killed);
    transitions.until(ModelState::Draining).await?;
    let unloading = transitions.next().await?;
    assert_eq!(unloading.state(), ModelState::Unloading);
    assert_eq!(unloading.reason, "WORKER_HUNG");
    Ok(())
}

#[hangar_tests::test]
async fn a_slow_engine_does_not_hang() -> Result<()> {
    let generate = GenerateScript {
        token_interval_ms: 1000,
        ..GenerateScript::default()
    };
    let (server, transitions) = server_within(LONGER, &Script::generating(generate)).await?;
    let answer = server
        .client
        .generate("m")
        .prompt("x")
        .max_tokens(6)
        .text()
        .await?;
    assert_eq!(answer.text, "t0 t1 t2 t3 t4 t5 ");
    assert_eq!(
        transitions.current().map(|status| status.state()),
        Some(Ready)
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_caller_that_does_not_read_is_no_hang() -> Result<()> {
    let generate = GenerateScript {
        token_interval_ms: 0,
        text: "x".repeat(1000),
        ..GenerateScript::default()
    };
    let (server, _transitions) = server_within(LONGER, &Script::generating(generate)).await?;
    let mut unread = server
        .client
        .generate("m")
        .prompt("x")
        .max_tokens(3000)
        .stream()
        .await?;
    // Far more than the windows of the connection hold, and longer than the limit.
    let slow = server.fixtures.scripted(
        "slow",
        &Script::generating(GenerateScript {
            token_interval_ms: 500,
            ..GenerateScript::default()
        }),
    )?;
    let spec = restarting(&slow, OnFailure, 5);
    server.client.load("slow").spec(spec).wait().await?;
    server
        .client
        .generate("slow")
        .prompt("x")
        .max_tokens(10)
        .text()
        .await?;
    let mut length = 0;
    while let Some(event) = unread.next().await {
        if let GenerateEvent::Chunk(chunk) = event? {
            length += chunk.text.len();
        }
    }
    assert_eq!(length, 3_000_000);
    let status = server.info().await?.status.context("a status")?;
    assert_eq!((status.state(), status.restarts), (Ready, 0));
    Ok(())
}

#[hangar_tests::test]
async fn a_hung_model_that_is_not_to_be_restarted_fails() -> Result<()> {
    let script = Script::generating(hangs_after(1));
    let server = TestServer::scripted()
        .script(&script)
        .time("--hang-timeout", LIMIT)
        .start()
        .await?;
    server.ready().await?;
    let mut transitions = server.follow("m").await?;
    let answer = server.client.generate("m").prompt("x").text().await;
    refusal(answer, Code::Unavailable, ErrorReason::WorkerHung);
    let failed = transitions.next().await?;
    assert_eq!(
        (failed.state(), failed.reason.as_str()),
        (Failed, "WORKER_HUNG")
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_load_of_what_is_being_killed_is_the_next_one() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&Script::generating(hangs_after(1)))
        .failpoints(&failpoints)
        .time("--hang-timeout", LIMIT)
        .time("--kill-timeout", NEVER)
        .start()
        .await?;
    let before = server.ready().await?;
    let mut transitions = server.follow("m").await?;
    // Killed, and for a while nobody hears that it has gone.
    let held = failpoints.hold("worker-reaped.m")?;
    let answer = server.client.generate("m").prompt("x").text().await;
    refusal(answer, Code::Unavailable, ErrorReason::WorkerHung);
    held.reached().await?;

    let load = server.load_m().send().await?;
    let status = load.status.context("a status")?;
    assert!(!load.already_loaded, "{status:?}");
    assert_ne!(load.load_id, before.load_id);
    assert_eq!(
        (status.state(), status.next_load_id.as_str()),
        (Draining, load.load_id.as_str())
    );
    let waiting = Background::start(server.load_m().wait());
    drop(held);
    let loaded = waiting.end().await??;
    assert_eq!(loaded.load_id, load.load_id);
    let status = loaded.status.context("a status")?;
    assert_eq!(status.state(), Ready);
    assert_ne!(status.worker_pid, before.worker_pid);
    assert_eq!(transitions.until(Ready).await?.load_id, before.load_id);
    let _draining = transitions.until(Draining).await?;
    assert_eq!(transitions.until(Ready).await?.load_id, load.load_id);
    Ok(())
}
