//! Workers that die in every load.

use std::time::SystemTime;

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, LoadOutcome, ModelState, RestartMode, RestartPolicy};
use hangar_tests::{
    fixtures::{Broken, Fixtures},
    processes,
    refusals::refusal,
    scripted::{Fault, Script},
    server::{TestServer, Transitions, spec},
};
use prost_types::Duration;
use tonic::Code;

use super::assert_failed;

fn at_once(mode: RestartMode, max_attempts: u32) -> Option<RestartPolicy> {
    let tick = Some(Duration {
        seconds: 0,
        nanos: 10_000_000,
    });
    Some(RestartPolicy {
        mode: mode.into(),
        max_attempts,
        initial_backoff: tick,
        max_backoff: tick,
        stable_period: None,
    })
}

async fn each_attempt(transitions: &mut Transitions, attempts: u32) -> Result<()> {
    use ModelState::{Backoff, Failed, Loading, Pending, Starting};
    for attempt in 1..=attempts {
        for state in [Pending, Starting, Loading] {
            let status = transitions.next().await?;
            assert_eq!((status.state(), status.attempt), (state, attempt));
        }
        let status = transitions.next().await?;
        let last = attempt == attempts;
        let state = if last { Failed } else { Backoff };
        assert_eq!((status.state(), status.attempt), (state, attempt));
        assert_eq!(status.reason, "WORKER_DIED");
        assert_eq!(status.worker_pid, 0);
        assert_eq!(status.next_retry_time.is_some(), !last);
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_load_that_aborts_each_time_is_tried_as_often_as_the_policy_says() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.directory("m")?;
    let script = Script {
        die_on_attempts: (1..=9).collect(),
        die_with: Fault::Abort,
        ..Script::default()
    };
    script.write(&path)?;
    let server = TestServer::scripted().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let mut transitions = server.follow("m").await?;
    let mut spec = spec(&path);
    spec.restart_policy = at_once(RestartMode::OnFailure, 3);
    let load = client.load("m").spec(spec);
    let (load, seen) = tokio::join!(load.wait(), each_attempt(&mut transitions, 3));
    seen?;
    let refusal = refusal(load, Code::Unavailable, ErrorReason::WorkerDied);
    assert!(refusal.message().contains("SIGABRT"), "{refusal}");
    let info = client.info().model("m").send().await?.models;
    assert_failed(
        &info[0].status.clone().unwrap_or_default(),
        "WORKER_DIED",
        refusal.message(),
    );
    let record = &info[0].recent_loads[0];
    assert_eq!(
        (record.outcome(), record.attempts),
        (LoadOutcome::Failed, 3)
    );
    assert!(processes::children(server.pid())?.is_empty());
    let unload = client.unload("m").send().await?;
    assert!(!unload.was_loaded);
    assert_eq!(transitions.next().await?.state(), ModelState::Unloaded);
    Ok(())
}

#[hangar_tests::test]
async fn a_wait_for_the_next_attempt_ends_with_an_unload() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.directory("m")?;
    let script = Script {
        die_on_attempts: vec![1],
        die_with: Fault::Segfault,
        ..Script::default()
    };
    script.write(&path)?;
    let server = TestServer::scripted().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let mut transitions = server.follow("m").await?;
    let mut spec = spec(&path);
    let hour = Some(Duration {
        seconds: 3600,
        nanos: 0,
    });
    spec.restart_policy = Some(RestartPolicy {
        initial_backoff: hour,
        max_backoff: hour,
        ..RestartPolicy::default()
    });
    let load = client.load("m").spec(spec).wait();
    let unload = async {
        let status = transitions.until(ModelState::Backoff).await?;
        let retry = SystemTime::try_from(status.next_retry_time.context("a time")?)?;
        assert!(retry > SystemTime::now());
        let answer = client.generate("m").prompt("x").text().await;
        refusal(answer, Code::Unavailable, ErrorReason::ModelLoading);
        let unload = client.unload("m").send().await?;
        assert!(!unload.was_loaded);
        anyhow::Ok(())
    };
    let (load, unload) = tokio::join!(load, unload);
    unload?;
    refusal(load, Code::Aborted, ErrorReason::LoadCancelled);
    assert_eq!(transitions.next().await?.state(), ModelState::Unloaded);
    Ok(())
}

#[hangar_tests::test]
async fn an_unusable_model_is_tried_again_only_if_the_policy_says_always() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.broken(Broken::Truncated)?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    for (mode, attempts) in [
        (RestartMode::Never, 1),
        (RestartMode::OnFailure, 1),
        (RestartMode::Always, 3),
    ] {
        let mut spec = spec(&path);
        spec.restart_policy = at_once(mode, 3);
        let load = client.load("m").spec(spec).force_reload().wait().await;
        refusal(load, Code::FailedPrecondition, ErrorReason::ModelUnusable);
        let info = client.info().model("m").send().await?.models;
        assert_eq!(info[0].recent_loads[0].attempts, attempts, "{mode:?}");
    }
    Ok(())
}
