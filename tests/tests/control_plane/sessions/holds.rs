//! What sessions hold, and what becomes of it when they close.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    convert::to_proto_duration,
    v1::{
        ErrorReason, LoadModelRequest, ModelSpec, ModelState, Session, SuspendReason,
        load_model_request,
    },
};
use hangar_tests::{
    background::Background,
    failpoints::Failpoints,
    info, processes,
    refusals::refusal,
    scripted::Script,
    server::TestServer,
    stubs::{load_again, load_for},
};
use tonic::Code;

use super::{holder, holders, load, send, session};

#[hangar_tests::test]
async fn closing_unloads_what_nobody_else_holds() -> Result<()> {
    let server = TestServer::real().start().await?;
    let (one, two) = (session(&server).await?, session(&server).await?);
    load(&server, &one, "alone", server.llama_spec()?).await?;
    load(&server, &one, "shared", server.qwen_spec()?).await?;
    let again = load(&server, &two, "shared", server.qwen_spec()?).await?;
    assert!(again.already_loaded);
    let answer = server.answer("shared").await?;
    let found = server.stubs.session(&one.session_id).await?;
    assert_eq!(found.model_ids, ["alone", "shared"]);
    let reported = server.stubs.info("shared").await?.holders;
    assert_eq!(reported, holders(&[&one, &two]));
    assert!(!server.stubs.is_desired("shared").await?);

    let mut watch = server.watch().await?;
    assert_eq!(server.stubs.close(&one.session_id).await?, ["alone"]);
    watch.until("alone", ModelState::Unloaded).await?;
    assert_eq!(watch.state("shared"), ModelState::Ready);
    assert_eq!(server.stubs.info("shared").await?.holders, [holder(&two)]);
    assert_eq!(server.answer("shared").await?, answer);

    assert_eq!(server.stubs.close(&two.session_id).await?, ["shared"]);
    watch.until("shared", ModelState::Unloaded).await?;
    assert!(server.stubs.info("shared").await?.holders.is_empty());
    assert!(processes::children(server.pid())?.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn models_loaded_without_a_session_are_not_unloaded_with_it() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let held = session(&server).await?;
    let (_, first) = server.script("held-first", &Script::default())?;
    let (_, then) = server.script("held-then", &Script::default())?;
    load(&server, &held, "held-first", first).await?;
    let plain = send(&server, load_again("held-first")).await?;
    assert!(plain.already_loaded);
    server.load("held-then", then.clone()).await?;
    load(&server, &held, "held-then", then).await?;
    assert!(server.stubs.close(&held.session_id).await?.is_empty());
    for model in ["held-first", "held-then"] {
        let info = server.stubs.info(model).await?;
        assert_eq!(info.status.unwrap_or_default().state(), ModelState::Ready);
        assert!(info.holders.is_empty());
        assert!(server.stubs.is_desired(model).await?, "{model}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn an_unknown_session_loads_and_registers_nothing() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let gone = session(&server).await?;
    server.stubs.close(&gone.session_id).await?;
    let (_, spec) = server.script("m", &Script::default())?;
    let refused = server.stubs.load(load_for(&gone, "m", spec.clone())).await;
    refusal(refused, Code::NotFound, ErrorReason::SessionNotFound);
    assert!(server.stubs.info("m").await.is_err());

    server.load("m", spec).await?;
    server.client.unload("m").send().await?;
    let all = LoadModelRequest {
        target: Some(load_model_request::Target::All(true)),
        session_id: gone.session_id.clone(),
        ..LoadModelRequest::default()
    };
    let checked = LoadModelRequest {
        validate_only: true,
        ..all.clone()
    };
    for request in [all, checked] {
        let refused = server.stubs.load(request).await;
        refusal(refused, Code::NotFound, ErrorReason::SessionNotFound);
    }
    assert!(processes::children(server.pid())?.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn held_models_are_not_idle() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let held = session(&server).await?;
    let idle = |spec: ModelSpec| ModelSpec {
        idle_timeout: Some(to_proto_duration(Duration::from_millis(100))),
        ..spec
    };
    let (_, spec) = server.script("held", &Script::default())?;
    load(&server, &held, "held", idle(spec)).await?;
    let (_, spec) = server.script("free", &Script::default())?;
    let mut watch = server.watch().await?;
    server.load("free", idle(spec)).await?;
    let status = watch.until("free", ModelState::Ready).await?;
    assert_eq!(status.suspend_reason(), SuspendReason::Unspecified);
    let status = watch.until("free", ModelState::Unloaded).await?;
    assert_eq!(status.suspend_reason(), SuspendReason::Idle);
    assert_eq!(watch.state("held"), ModelState::Ready);
    assert_eq!(server.stubs.close(&held.session_id).await?, ["held"]);
    let status = watch.until("held", ModelState::Unloaded).await?;
    assert_eq!(status.suspend_reason(), SuspendReason::Unspecified);
    Ok(())
}

/// A load of `model` for the session that is refused when it is ordered: the spec was changed since it was checked.
async fn refused_load(
    server: &TestServer,
    failpoints: &Failpoints,
    session: &Session,
    model: &str,
) -> Result<()> {
    let spec = server.client.get_model(model).send().await?.spec;
    let held = failpoints.hold(&format!("load-order.{model}"))?;
    let stubs = server.stubs.clone();
    let request = load_for(session, model, spec.context("a spec")?);
    let load = Background::start(async move { stubs.load(request).await });
    held.reached().await?;
    let changed = server.client.edit_model(model).send(|model| {
        model.spec.get_or_insert_default().priority += 1;
    });
    changed.await?.context("nothing was changed")?;
    drop(held);
    refusal(
        load.end().await?,
        Code::FailedPrecondition,
        ErrorReason::SpecConflict,
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_refused_load_holds_nothing_and_unloads_nothing() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .failpoints(&failpoints)
        .start()
        .await?;
    let (_, spec) = server.script("on-demand", &Script::default())?;
    let spec = ModelSpec {
        load_on_demand: true,
        ..spec
    };
    server.client.create_model("on-demand", spec).send().await?;
    server
        .client
        .generate("on-demand")
        .prompt("x")
        .text()
        .await?;
    let worker = info::worker(&server.client, "on-demand").await?;

    let session = session(&server).await?;
    refused_load(&server, &failpoints, &session, "on-demand").await?;
    let found = server.stubs.session(&session.session_id).await?;
    assert!(found.model_ids.is_empty(), "{found:?}");
    let info = server.stubs.info("on-demand").await?;
    assert!(info.holders.is_empty());
    let status = info.status.unwrap_or_default();
    assert_eq!(
        (status.state(), status.worker_pid),
        (ModelState::Ready, worker)
    );
    assert!(server.stubs.close(&session.session_id).await?.is_empty());
    assert!(processes::is_running(worker));
    Ok(())
}

#[hangar_tests::test]
async fn a_refused_load_takes_nothing_from_a_session_that_holds_the_model() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .failpoints(&failpoints)
        .start()
        .await?;
    let session = session(&server).await?;
    let (_, spec) = server.script("held", &Script::default())?;
    load(&server, &session, "held", spec).await?;
    refused_load(&server, &failpoints, &session, "held").await?;
    let info = server.stubs.info("held").await?;
    assert_eq!(info.holders, [holder(&session)]);
    assert_eq!(info.status.unwrap_or_default().state(), ModelState::Ready);
    assert_eq!(server.stubs.close(&session.session_id).await?, ["held"]);
    Ok(())
}
