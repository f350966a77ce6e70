//! BACKOFF: when a failed model is tried again, and when no more.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    convert::to_proto_duration,
    v1::{
        ErrorReason, LoadOutcome, ModelSpec,
        ModelState::{Backoff, Failed, Loading, Pending, Ready, Starting, Unloaded, Warming},
        RestartMode::{Always, Never, OnFailure},
        RestartPolicy,
    },
};
use hangar_tests::{
    background::Background,
    processes,
    refusals::refusal,
    scripted::{LoadKind, Script},
    server::{TestServer, restarting},
    time_enough::with_time_enough,
};
use rustix::process::Signal;
use tonic::Code;

/// A worker that dies in the load of these attempts.
fn dies_on(attempts: &[u32]) -> Script {
    Script {
        die_on_attempts: attempts.to_vec(),
        ..Script::default()
    }
}

/// The spec of the server's model with a second attempt after a minute.
fn patient(server: &TestServer) -> ModelSpec {
    ModelSpec {
        restart_policy: Some(RestartPolicy {
            mode: OnFailure.into(),
            initial_backoff: Some(to_proto_duration(Duration::from_secs(60))),
            ..RestartPolicy::default()
        }),
        ..server.spec()
    }
}

#[hangar_tests::test]
async fn a_load_that_dies_twice_succeeds_at_the_third_attempt() -> Result<()> {
    let server = TestServer::checked(&dies_on(&[1, 2])).start().await?;
    let mut transitions = server.follow("m").await?;
    let spec = restarting(&server.directory, OnFailure, 5);
    let load = server.client.load("m").spec(spec).wait().await?;
    let ready = load.status.context("a status")?;
    assert_eq!((ready.attempt, ready.restarts), (3, 2));
    let died = [Pending, Starting, Loading, Backoff];
    let attempts = [
        &died[..],
        &died,
        &[Pending, Starting, Loading, Warming, Ready],
    ]
    .concat();
    for (generation, state) in (1..).zip(attempts) {
        let status = transitions.next().await?;
        assert_eq!((status.state(), status.generation), (state, generation));
        assert_eq!(status.load_id, load.load_id);
        assert_eq!(status.next_retry_time.is_some(), state == Backoff);
        let reason = if state == Backoff { "WORKER_DIED" } else { "" };
        assert_eq!(status.reason, reason);
    }
    let loads = server.info().await?.recent_loads;
    assert_eq!((loads.len(), loads[0].attempts), (1, 3));
    Ok(())
}

#[hangar_tests::test]
async fn attempts_end_at_the_policys_maximum() -> Result<()> {
    let server = TestServer::checked(&dies_on(&[1, 2, 3, 4])).start().await?;
    let mut transitions = server.follow("m").await?;
    let spec = restarting(&server.directory, OnFailure, 3);
    let load = server.client.load("m").spec(spec).wait().await;
    let died = refusal(load, Code::Unavailable, ErrorReason::WorkerDied);
    assert!(died.details().retry_after.is_some());
    let failed = transitions.until(Failed).await?;
    assert_eq!((failed.attempt, failed.reason.as_str()), (3, "WORKER_DIED"));
    assert!(failed.next_retry_time.is_none());
    let record = server
        .info()
        .await?
        .recent_loads
        .into_iter()
        .next()
        .context("a load")?;
    assert_eq!(
        (record.outcome(), record.attempts),
        (LoadOutcome::Failed, 3)
    );
    // A further request begins anew: its first attempt is the worker's fourth.
    let again = server
        .client
        .load("m")
        .wait()
        .await?
        .status
        .context("a status")?;
    assert_eq!(again.attempt, 2);
    Ok(())
}

#[hangar_tests::test]
async fn a_model_is_restarted_as_its_policy_says() -> Result<()> {
    let unusable = LoadKind::Fail {
        reason: "MODEL_UNUSABLE".into(),
        message: "It will never work. Give it up.".into(),
    };
    let died = LoadKind::Error;
    let cases = [
        (Never, died.clone(), 1),
        (OnFailure, died.clone(), 3),
        (Always, died, 3),
        (Never, unusable.clone(), 1),
        (OnFailure, unusable.clone(), 1),
        (Always, unusable, 3),
    ];
    let server = TestServer::checked(&Script::default()).start().await?;
    for (number, (mode, kind, attempts)) in cases.into_iter().enumerate() {
        let id = format!("m{number}");
        let path = server.fixtures.scripted(&id, &Script::loading(kind))?;
        let load = server.client.load(&id).spec(restarting(&path, mode, 3));
        assert!(load.wait().await.is_err());
        let info = server.client.info().model(&id).send().await?.models;
        assert_eq!(
            info[0].recent_loads[0].attempts, attempts,
            "{mode:?} {number}"
        );
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_ready_model_that_dies_comes_back() -> Result<()> {
    let server = TestServer::checked(&Script::default()).start().await?;
    let mut transitions = server.follow("m").await?;
    let spec = restarting(&server.directory, OnFailure, 5);
    server.client.load("m").spec(spec).send().await?;
    let first = transitions.until(Ready).await?;
    processes::signal(first.worker_pid, Signal::KILL)?;
    let backoff = transitions.next().await?;
    assert_eq!(
        (backoff.state(), backoff.reason.as_str()),
        (Backoff, "WORKER_DIED")
    );
    assert!(backoff.next_retry_time.is_some());
    assert_ne!(backoff.load_id, first.load_id);
    let second = transitions.until(Ready).await?;
    assert_eq!(second.load_id, backoff.load_id);
    assert_ne!(second.worker_pid, first.worker_pid);
    assert_eq!((second.restarts, second.attempt), (1, 2));
    let loads = server.info().await?.recent_loads;
    assert_eq!(
        (loads.len(), loads[0].load_id.as_str()),
        (2, second.load_id.as_str())
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_model_that_keeps_dying_is_given_up() -> Result<()> {
    let server = TestServer::checked(&Script::default()).start().await?;
    let mut transitions = server.follow("m").await?;
    let spec = restarting(&server.directory, OnFailure, 2);
    server.client.load("m").spec(spec).send().await?;
    let first = transitions.until(Ready).await?;
    processes::signal(first.worker_pid, Signal::KILL)?;
    transitions.until(Backoff).await?;
    let second = transitions.until(Ready).await?;
    processes::signal(second.worker_pid, Signal::KILL)?;
    let last = transitions.next().await?;
    assert_eq!(
        (last.state(), last.reason.as_str()),
        (Failed, "WORKER_DIED")
    );
    Ok(())
}

#[hangar_tests::test]
async fn attempts_are_forgotten_after_the_stable_period() -> Result<()> {
    let server = TestServer::checked(&Script::default()).start().await?;
    let mut transitions = server.follow("m").await?;
    let mut spec = restarting(&server.directory, OnFailure, 2);
    let policy = spec.restart_policy.get_or_insert_default();
    policy.stable_period = Some(to_proto_duration(Duration::from_millis(10)));
    server.client.load("m").spec(spec).send().await?;
    for _ in 0..3 {
        let ready = transitions.until(Ready).await?;
        server
            .info_when(|info| {
                info.status
                    .as_ref()
                    .is_some_and(|status| status.attempt == 1)
            })
            .await?;
        processes::signal(ready.worker_pid, Signal::KILL)?;
        transitions.until(Backoff).await?;
    }
    transitions.until(Ready).await?;
    Ok(())
}

#[hangar_tests::test]
async fn an_unload_ends_the_back_off() -> Result<()> {
    let server = TestServer::checked(&dies_on(&[1])).start().await?;
    let mut transitions = server.follow("m").await?;
    let waiting = Background::start(server.client.load("m").spec(patient(&server)).wait());
    transitions.until(Backoff).await?;
    let unload = server.client.unload("m").send().await?;
    assert!(!unload.was_loaded);
    refusal(
        waiting.end().await?,
        Code::Aborted,
        ErrorReason::LoadCancelled,
    );
    let unloaded = transitions.until(Unloaded).await?;
    assert!(unloaded.reason.is_empty() && unloaded.next_retry_time.is_none());
    Ok(())
}

#[hangar_tests::test]
async fn a_load_in_the_back_off_joins_and_the_time_of_the_load_goes_on() -> Result<()> {
    with_time_enough(Duration::from_secs(2), async |limit| {
        let server = TestServer::checked(&dies_on(&[1])).start().await?;
        let mut transitions = server.follow("m").await?;
        let spec = patient(&server);
        let load = server.client.load("m").spec(spec).timeout(limit);
        let load = load.send().await?;
        if transitions.until(Backoff).await.is_err() {
            return Ok(None);
        }
        let joined = server.client.load("m").send().await?;
        if joined.load_id != load.load_id {
            return Ok(None);
        }
        assert!(!joined.already_loaded);
        let late = server.client.load("m").wait().await;
        let failed = transitions.until(Failed).await?;
        assert_eq!(failed.reason, "LOAD_TIMEOUT");
        if failed.load_id != load.load_id || late.is_ok() {
            return Ok(None);
        }
        let late = refusal(late, Code::DeadlineExceeded, ErrorReason::LoadTimeout);
        assert!(late.message().contains("SIGKILL"), "{late}");
        Ok(Some(()))
    })
    .await
}

#[hangar_tests::test]
async fn a_request_in_the_back_off_gets_a_retry_delay() -> Result<()> {
    let server = TestServer::checked(&dies_on(&[1])).start().await?;
    let mut transitions = server.follow("m").await?;
    server
        .client
        .load("m")
        .spec(patient(&server))
        .send()
        .await?;
    transitions.until(Backoff).await?;
    let early = server.client.generate("m").prompt("x").text().await;
    let early = refusal(early, Code::Unavailable, ErrorReason::ModelLoading);
    assert!(early.details().retry_after.is_some());
    Ok(())
}
