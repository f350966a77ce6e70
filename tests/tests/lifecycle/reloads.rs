//! LoadModel with `force_reload`.

use anyhow::{Context, Result};
use hangar_client::v1::{
    ErrorReason,
    ModelState::{Draining, Loading, Ready, Unloaded},
};
use hangar_tests::{
    background::Background,
    hangar::DEADLINE,
    lab::Lab,
    processes,
    refusals::refusal,
    scripted::{Event, Script},
};
use tokio::time::timeout;
use tonic::Code;

use crate::other_spec;

#[tokio::test]
async fn a_reload_of_a_ready_model_gives_it_a_new_worker() -> Result<()> {
    let lab = Lab::start(&Script::default()).await?;
    let before = lab.ready().await?;
    let reload = lab.load().force_reload().wait().await?;
    assert!(!reload.already_loaded);
    assert_ne!(reload.load_id, before.load_id);
    let status = reload.status.context("a status")?;
    assert_ne!(status.worker_pid, before.worker_pid);
    assert!(processes::is_running(status.worker_pid) && !processes::exists(before.worker_pid));
    let info = lab.info().await?;
    assert_eq!((info.version, info.recent_loads.len()), (1, 2));
    Ok(())
}

#[tokio::test]
async fn a_reload_without_wait_answers_at_once() -> Result<()> {
    let lab = Lab::start(&Script::default()).await?;
    let before = lab.ready().await?;
    let mut transitions = lab.follow().await?;
    let reload = lab.client.load("m").force_reload().send().await?;
    assert!(!reload.already_loaded);
    assert_ne!(reload.load_id, before.load_id);
    transitions.until(Unloaded).await?;
    assert_eq!(transitions.until(Ready).await?.load_id, reload.load_id);
    Ok(())
}

#[tokio::test]
async fn a_reload_joins_an_equal_load_that_is_under_way() -> Result<()> {
    let lab = Lab::start(&Script::gated()).await?;
    let mut held = lab.hold(Loading).await?;
    let first = lab.load().send().await?;
    let reload = lab.load().force_reload().send().await?;
    assert_eq!(reload.load_id, first.load_id);
    held.gate.open()?;
    let ready = held.transitions.until(Ready).await?;
    assert_eq!((ready.load_id, ready.worker_pid), (first.load_id, held.pid));
    Ok(())
}

#[tokio::test]
async fn a_reload_replaces_the_spec() -> Result<()> {
    let lab = Lab::start(&Script::default()).await?;
    lab.ready().await?;
    let before = lab.info().await?;
    let reload = lab.client.load("m").spec(other_spec(&lab)).force_reload();
    reload.wait().await?;
    let after = lab.info().await?;
    assert_eq!((before.version, after.version), (1, 2));
    assert_ne!(before.etag, after.etag);
    assert_eq!(after.spec.map(|spec| spec.context_length), Some(77));
    let old = lab.load().wait().await;
    refusal(old, Code::FailedPrecondition, ErrorReason::SpecConflict);
    Ok(())
}

#[tokio::test]
async fn a_reload_with_another_spec_ends_a_load_that_is_under_way() -> Result<()> {
    let lab = Lab::start(&Script::gated()).await?;
    let mut held = lab.hold(Loading).await?;
    let first = lab.load().send().await?;
    let reload = lab.client.load("m").spec(other_spec(&lab)).force_reload();
    let reload = reload.send().await?;
    assert_ne!(reload.load_id, first.load_id);
    refusal(
        held.load.end().await?,
        Code::Aborted,
        ErrorReason::LoadCancelled,
    );
    held.gate.open()?;
    let ready = held.transitions.until(Ready).await?;
    assert_eq!(ready.load_id, reload.load_id);
    assert_ne!(ready.worker_pid, held.pid);
    assert!(!processes::exists(held.pid));
    assert_eq!(lab.info().await?.version, 2);
    Ok(())
}

#[tokio::test]
async fn a_reload_lets_running_requests_end() -> Result<()> {
    let lab = Lab::start(&Script::gated()).await?;
    lab.ready().await?;
    let gate = lab.gate("token")?;
    let mut events = lab.events()?;
    let mut transitions = lab.follow().await?;
    let answer = Background::start(lab.client.generate("m").prompt("x").max_tokens(3).text());
    timeout(DEADLINE, events.until(Event::Generate)).await??;
    let reload = Background::start(lab.load().force_reload().wait());
    transitions.until(Draining).await?;
    gate.open()?;
    assert_eq!(answer.end().await??.text, "t0 t1 t2 ");
    reload.end().await??;
    Ok(())
}
