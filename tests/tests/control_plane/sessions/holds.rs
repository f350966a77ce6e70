//! What sessions hold, and what becomes of it when they close.

use std::time::Duration;

use anyhow::Result;
use hangar_client::{
    convert::to_proto_duration,
    v1::{ErrorReason, LoadModelRequest, ModelSpec, ModelState, SuspendReason, load_model_request},
};
use hangar_tests::{
    processes,
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
