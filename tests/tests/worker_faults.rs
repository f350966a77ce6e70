//! Faults of a worker that only the scripted one can be brought to have.

use anyhow::Result;
use hangar_client::v1::{ErrorReason, ModelState, RestartMode, RestartPolicy};
use hangar_tests::{
    fixtures::Fixtures,
    hangar::{Hangar, Options, spec},
    processes,
    scripted::{Gate, GenerateScript, LoadScript, Script},
};

#[tokio::test]
async fn a_load_that_dies_twice_succeeds_at_the_third_attempt() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let model = fixtures.directory("m")?;
    Script {
        die_on_attempts: vec![1, 2],
        ..Script::default()
    }
    .write(&model)?;
    let hangar = Hangar::start(Options::scripted(&fixtures)).await?;
    let client = hangar.client().await?;
    let mut transitions = hangar.follow("m").await?;
    let mut spec = spec(&model);
    spec.restart_policy = Some(RestartPolicy {
        mode: RestartMode::OnFailure.into(),
        initial_backoff: Some(prost_types::Duration {
            seconds: 0,
            nanos: 10_000_000,
        }),
        ..RestartPolicy::default()
    });
    let load = client.load("m").spec(spec).wait().await?;
    assert_eq!(load.status.map_or(0, |status| status.attempt), 3);
    use ModelState::{Backoff, Loading, Pending, Ready, Starting, Warming};
    let died = [Pending, Starting, Loading, Backoff];
    let expected = [
        &died[..],
        &died[..],
        &[Pending, Starting, Loading, Warming, Ready],
    ]
    .concat();
    assert_eq!(transitions.states_to(Ready).await?, expected);
    hangar.terminate().await?;
    Ok(())
}

#[tokio::test]
async fn a_load_can_be_cancelled_while_it_is_held_back() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let model = fixtures.directory("m")?;
    let _gate = Gate::new(&model, "load")?;
    let load = LoadScript {
        gate: Some("load".into()),
        ..LoadScript::default()
    };
    Script {
        load,
        ..Script::default()
    }
    .write(&model)?;
    let hangar = Hangar::start(Options::scripted(&fixtures)).await?;
    let client = hangar.client().await?;
    let mut transitions = hangar.follow("m").await?;
    client.load("m").spec(spec(&model)).send().await?;
    let pid = transitions.until(ModelState::Loading).await?.worker_pid;
    assert!(processes::is_running(pid));
    client.unload("m").send().await?;
    assert!(!processes::exists(pid));
    Ok(())
}

#[tokio::test]
async fn a_worker_that_dies_at_a_token_ends_the_answer() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let model = fixtures.directory("m")?;
    let generate = GenerateScript {
        die_after: Some(3),
        ..GenerateScript::default()
    };
    Script {
        generate,
        ..Script::default()
    }
    .write(&model)?;
    let hangar = Hangar::start(Options::scripted(&fixtures)).await?;
    let client = hangar.client().await?;
    client.load("m").spec(spec(&model)).wait().await?;
    let mut answer = client.generate("m").prompt("x").stream().await?;
    for _ in 0..3 {
        answer.next().await.transpose()?;
    }
    let error = answer.next().await.and_then(Result::err);
    let error = error.ok_or_else(|| anyhow::anyhow!("no error"))?;
    assert_eq!(error.reason(), Some(ErrorReason::WorkerDied));
    assert!(error.retry_after().is_some());
    Ok(())
}
