//! LoadModel: at once or with `wait`, idempotent, bound to one spec.

use anyhow::{Context, Result};
use hangar_client::v1::{
    DesiredState, ErrorReason, LoadModelRequest, LoadModelResponse, LoadOutcome, ModelInfo,
    ModelSpec,
    ModelState::{self, Failed, Loading, Pending, Ready, Starting, Unloaded, Warming},
    load_model_request::Target,
};
use hangar_tests::{
    processes,
    refusals::refusal,
    scripted::{LoadKind, Script, ScriptedEvent},
    server::TestServer,
};
use tonic::Code;
use tonic_types::StatusExt;

use super::other_spec;

async fn validate(
    server: &TestServer,
    id: &str,
    spec: ModelSpec,
) -> Result<LoadModelResponse, hangar_client::Error> {
    let request = LoadModelRequest {
        target: Some(Target::ModelId(id.to_owned())),
        spec: Some(spec),
        validate_only: true,
        ..LoadModelRequest::default()
    };
    let answer = server.client.model_service().load_model(request).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| hangar_client::Error::from_answer(&server.client, status))
}

#[hangar_tests::test]
async fn a_load_answers_at_once_and_goes_through_every_state() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .start()
        .await?;
    let gate = server.gate("ready")?;
    let mut transitions = server.follow("m").await?;
    let load = server.load_m().send().await?;
    assert!(!load.already_loaded && !load.load_id.is_empty());
    let begun = load.status.context("a status")?;
    assert!(matches!(begun.state(), Pending | Starting), "{begun:?}");
    assert_eq!(
        (begun.load_id.as_str(), begun.attempt),
        (load.load_id.as_str(), 1)
    );
    gate.open()?;
    for (generation, state) in (1..).zip([Pending, Starting, Loading, Warming, Ready]) {
        let status = transitions.next().await?;
        assert_eq!((status.state(), status.generation), (state, generation));
        assert_eq!(status.load_id, load.load_id);
        assert_eq!(status.reason, "");
        let fraction = status.progress.map(|progress| progress.fraction);
        assert_eq!(fraction.is_some(), state != Ready);
        assert!(fraction.is_none_or(|fraction| fraction < 1.0));
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_load_with_wait_answers_when_the_model_is_ready() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    let load = server.load_m().wait().await?;
    assert!(!load.already_loaded && load.error.is_none());
    let status = load.status.context("a status")?;
    assert_eq!((status.state(), status.load_id), (Ready, load.load_id));
    assert!(processes::is_running(status.worker_pid));
    assert!(status.memory.is_some_and(|memory| memory.host_bytes > 0));
    assert!(status.progress.is_none());
    Ok(())
}

#[hangar_tests::test]
async fn load_is_idempotent_while_loading_and_when_ready() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .start()
        .await?;
    let mut held = server.hold(Loading).await?;
    let one = server.load_m().send().await?;
    let two = server.client.load("m").send().await?;
    assert_eq!(one.load_id, two.load_id);
    assert!(!one.already_loaded && !two.already_loaded);
    held.gate.open()?;
    let status = held.transitions.until(Ready).await?;
    let first = held.load.end().await??;
    assert_eq!(
        (first.load_id, first.already_loaded),
        (one.load_id.clone(), false)
    );
    let again = server.load_m().wait().await?;
    assert!(again.already_loaded);
    assert_eq!(again.load_id, one.load_id);
    let again = again.status.context("a status")?;
    assert_eq!(again.worker_pid, held.pid);
    assert_eq!(again.generation, status.generation);
    Ok(())
}

#[hangar_tests::test]
async fn a_spec_registers_an_unknown_model() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    let unknown = refusal(
        server.client.load("m").send().await,
        Code::NotFound,
        ErrorReason::ModelNotFound,
    );
    let metadata = &unknown.details().metadata;
    assert_eq!(metadata.get("model_id").map(String::as_str), Some("m"));
    assert_eq!(
        metadata.get("known_model_ids").map(String::as_str),
        Some("")
    );
    server.load_m().wait().await?;
    server.client.unload("m").send().await?;
    assert_eq!(server.client.load("m").wait().await?.model_id, "m");
    let unknown = refusal(
        server.client.load("n").send().await,
        Code::NotFound,
        ErrorReason::ModelNotFound,
    );
    let known = unknown.details().metadata.get("known_model_ids");
    assert_eq!(known.map(String::as_str), Some("m"));
    let resource = unknown.status().get_details_resource_info();
    assert_eq!(
        resource.map(|info| info.resource_name).as_deref(),
        Some("n")
    );
    Ok(())
}

/// Another spec is refused, the same one is not, and neither changes anything.
async fn assert_bound_to_its_spec(server: &TestServer, state: ModelState) -> Result<()> {
    let before = server.info().await?;
    let was = before.status.context("a status")?;
    assert_eq!(was.state(), state);
    let other = server.client.load("m").spec(other_spec(server));
    let conflict = refusal(
        other.wait().await,
        Code::FailedPrecondition,
        ErrorReason::SpecConflict,
    );
    let details = conflict.details();
    assert_eq!(details.preconditions.len(), 1, "{details:?}");
    assert_eq!(details.preconditions[0].subject, "m");
    assert_eq!(
        details.metadata.get("version").map(String::as_str),
        Some("1")
    );
    let after = server.info().await?;
    let is = after.status.context("a status")?;
    assert_eq!(
        (is.state(), is.generation, is.load_id),
        (state, was.generation, was.load_id)
    );
    assert_eq!((after.version, &after.etag), (1, &before.etag));
    assert_eq!(
        (after.spec, after.desired_state),
        (before.spec, before.desired_state)
    );
    Ok(())
}

#[hangar_tests::test]
async fn another_spec_is_a_conflict_while_loading() -> Result<()> {
    for state in [Starting, Loading, Warming] {
        let server = TestServer::scripted()
            .script(&Script::gated())
            .start()
            .await?;
        let mut held = server.hold(state).await?;
        assert_bound_to_its_spec(&server, state).await?;
        held.gate.open()?;
        held.transitions.until(Ready).await?;
    }
    Ok(())
}

#[hangar_tests::test]
async fn another_spec_is_a_conflict_when_ready_and_when_unloaded() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    server.ready().await?;
    assert_bound_to_its_spec(&server, Ready).await?;
    server.client.unload("m").send().await?;
    assert_bound_to_its_spec(&server, Unloaded).await
}

#[hangar_tests::test]
async fn another_spec_is_a_conflict_when_failed() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::loading(LoadKind::Error))
        .start()
        .await?;
    assert!(server.load_m().wait().await.is_err());
    assert_bound_to_its_spec(&server, Failed).await?;
    assert!(server.load_m().wait().await.is_err());
    let info = server.info().await?;
    assert_eq!(info.recent_loads.len(), 2);
    assert!(
        info.recent_loads
            .iter()
            .all(|load| load.outcome() == LoadOutcome::Failed)
    );
    Ok(())
}

/// What does not change by itself: the last minute is another at each moment.
fn timeless(model: &ModelInfo) -> ModelInfo {
    let mut model = model.clone();
    if let Some(metrics) = &mut model.metrics {
        metrics.last_minute = None;
    }
    model
}

#[hangar_tests::test]
async fn validate_only_reports_what_is_wrong_and_changes_nothing() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    assert!(
        validate(&server, "m", server.spec())
            .await?
            .loads
            .is_empty()
    );
    let unknown = server.client.info().model("m").send().await;
    refusal(unknown, Code::NotFound, ErrorReason::ModelNotFound);
    server.ready().await?;
    server.client.unload("m").send().await?;
    let before = server.info().await?;
    assert!(
        validate(&server, "m", server.spec())
            .await?
            .loads
            .is_empty()
    );
    let conflict = validate(&server, "m", other_spec(&server)).await;
    refusal(
        conflict,
        Code::FailedPrecondition,
        ErrorReason::SpecConflict,
    );
    let after = server.info().await?;
    assert_eq!(timeless(&after), timeless(&before));
    assert_eq!(after.desired_state(), DesiredState::Unloaded);
    Ok(())
}

#[hangar_tests::test]
async fn loads_that_join_start_one_worker() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    let mut events = server.events()?;
    let loads = (0..8).map(|_| server.load_m().wait());
    let loads = futures::future::try_join_all(loads).await?;
    assert!(loads.iter().all(|load| load.load_id == loads[0].load_id));
    server.client.unload("m").send().await?;
    let reports = [
        events.next().await?,
        events.next().await?,
        events.next().await?,
    ];
    let events = reports.map(|report| report.event);
    assert_eq!(
        events,
        [
            ScriptedEvent::Started,
            ScriptedEvent::Load,
            ScriptedEvent::Shutdown
        ]
    );
    Ok(())
}
