//! What sessions hold, and what becomes of it when they close.

use std::time::Duration;

use anyhow::Result;
use hangar_client::{
    convert::to_proto_duration,
    v1::{ErrorReason, LoadModelRequest, ModelSpec, ModelState, SuspendReason, load_model_request},
};
use hangar_tests::{
    house::House,
    processes,
    refusals::refusal,
    scripted::Script,
    stubs::{load_again, load_for},
};
use tonic::Code;

use crate::{holder, holders, load, send, session};

#[tokio::test]
async fn closing_unloads_what_nobody_else_holds() -> Result<()> {
    let house = House::real().await?;
    let (one, two) = (session(&house).await?, session(&house).await?);
    load(&house, &one, "alone", house.llama_spec()?).await?;
    load(&house, &one, "shared", house.qwen_spec()?).await?;
    let again = load(&house, &two, "shared", house.qwen_spec()?).await?;
    assert!(again.already_loaded);
    let answer = house.answer("shared").await?;
    let found = house.stubs.session(&one.session_id).await?;
    assert_eq!(found.model_ids, ["alone", "shared"]);
    let told = house.stubs.info("shared").await?.holders;
    assert_eq!(told, holders(&[&one, &two]));
    assert!(!house.stubs.is_desired("shared").await?);

    let mut feed = house.feed().await?;
    assert_eq!(house.stubs.close(&one.session_id).await?, ["alone"]);
    feed.until("alone", ModelState::Unloaded).await?;
    assert_eq!(feed.state("shared"), ModelState::Ready);
    assert_eq!(house.stubs.info("shared").await?.holders, [holder(&two)]);
    assert_eq!(house.answer("shared").await?, answer);

    assert_eq!(house.stubs.close(&two.session_id).await?, ["shared"]);
    feed.until("shared", ModelState::Unloaded).await?;
    assert!(house.stubs.info("shared").await?.holders.is_empty());
    assert!(processes::children(house.hangar.pid())?.is_empty());
    Ok(())
}

#[tokio::test]
async fn what_was_loaded_without_a_session_stays() -> Result<()> {
    let house = House::scripted().await?;
    let held = session(&house).await?;
    let (_, first) = house.script("held-first", &Script::default())?;
    let (_, then) = house.script("held-then", &Script::default())?;
    load(&house, &held, "held-first", first).await?;
    let plain = send(&house, load_again("held-first")).await?;
    assert!(plain.already_loaded);
    house.load("held-then", then.clone()).await?;
    load(&house, &held, "held-then", then).await?;
    assert!(house.stubs.close(&held.session_id).await?.is_empty());
    for model in ["held-first", "held-then"] {
        let info = house.stubs.info(model).await?;
        assert_eq!(info.status.unwrap_or_default().state(), ModelState::Ready);
        assert!(info.holders.is_empty());
        assert!(house.stubs.is_desired(model).await?, "{model}");
    }
    Ok(())
}

#[tokio::test]
async fn an_unknown_session_loads_and_registers_nothing() -> Result<()> {
    let house = House::scripted().await?;
    let gone = session(&house).await?;
    house.stubs.close(&gone.session_id).await?;
    let (_, spec) = house.script("m", &Script::default())?;
    let refused = house.stubs.load(load_for(&gone, "m", spec.clone())).await;
    refusal(refused, Code::NotFound, ErrorReason::SessionNotFound);
    assert!(house.stubs.info("m").await.is_err());

    house.load("m", spec).await?;
    house.client.unload("m").send().await?;
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
        let refused = house.stubs.load(request).await;
        refusal(refused, Code::NotFound, ErrorReason::SessionNotFound);
    }
    assert!(processes::children(house.hangar.pid())?.is_empty());
    Ok(())
}

#[tokio::test]
async fn what_is_held_is_not_idle() -> Result<()> {
    let house = House::scripted().await?;
    let held = session(&house).await?;
    let idle = |spec: ModelSpec| ModelSpec {
        idle_timeout: Some(to_proto_duration(Duration::from_millis(100))),
        ..spec
    };
    let (_, spec) = house.script("held", &Script::default())?;
    load(&house, &held, "held", idle(spec)).await?;
    let (_, spec) = house.script("free", &Script::default())?;
    let mut feed = house.feed().await?;
    house.load("free", idle(spec)).await?;
    let status = feed.until("free", ModelState::Ready).await?;
    assert_eq!(status.suspend_reason(), SuspendReason::Unspecified);
    let status = feed.until("free", ModelState::Unloaded).await?;
    assert_eq!(status.suspend_reason(), SuspendReason::Idle);
    assert_eq!(feed.state("held"), ModelState::Ready);
    assert_eq!(house.stubs.close(&held.session_id).await?, ["held"]);
    let status = feed.until("held", ModelState::Unloaded).await?;
    assert_eq!(status.suspend_reason(), SuspendReason::Unspecified);
    Ok(())
}
