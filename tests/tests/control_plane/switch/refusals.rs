//! Switches that are not begun.

use std::time::Duration;

use anyhow::Result;
use hangar_client::{
    convert::to_proto_duration,
    v1::{ErrorReason, ModelSpec, ModelState, SwitchModelRequest, SwitchOutcome, SwitchStrategy},
};
use hangar_tests::{
    refusals::{refusal, wrong_fields},
    scripted::{Gate, Script},
    server::TestServer,
    stubs::switch,
};
use tonic::Code;

use super::{ALIAS, point, state, target};

fn to(model_id: &str) -> SwitchModelRequest {
    switch(ALIAS, model_id, SwitchStrategy::Auto)
}

/// The request as it is, and as a mere check of it.
fn both(request: SwitchModelRequest) -> [SwitchModelRequest; 2] {
    let checked = SwitchModelRequest {
        validate_only: true,
        ..request.clone()
    };
    [checked, request]
}

/// A server with the model "m", which is loaded.
async fn server() -> Result<TestServer> {
    let server = TestServer::scripted().checked().start().await?;
    let (_, spec) = server.script("m", &Script::default())?;
    server.load("m", spec).await?;
    Ok(server)
}

#[hangar_tests::test]
async fn every_wrong_field_is_named() -> Result<()> {
    let server = server().await?;
    let request = SwitchModelRequest {
        alias: "a b".into(),
        model_id: String::new(),
        strategy: 77,
        drain_timeout: Some(prost_types::Duration {
            seconds: -1,
            nanos: 0,
        }),
        timeout: Some(to_proto_duration(Duration::ZERO)),
        request_id: "x".repeat(129),
        ..SwitchModelRequest::default()
    };
    for request in both(request) {
        let mut fields = wrong_fields(server.stubs.switch(request).await);
        fields.sort();
        assert_eq!(
            fields,
            [
                "alias",
                "drain_timeout",
                "model_id",
                "request_id",
                "strategy",
                "timeout"
            ]
        );
    }
    for request in both(switch("m", "m", SwitchStrategy::Auto)) {
        assert_eq!(wrong_fields(server.stubs.switch(request).await), ["alias"]);
    }
    assert!(server.stubs.switches().await?.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn a_models_id_is_no_alias() -> Result<()> {
    let server = server().await?;
    let (_, spec) = server.script("n", &Script::default())?;
    let request = SwitchModelRequest {
        spec: Some(spec),
        ..switch("m", "n", SwitchStrategy::Auto)
    };
    for request in both(request) {
        let refused = server.stubs.switch(request).await;
        refusal(refused, Code::AlreadyExists, ErrorReason::ModelExists);
    }
    assert!(server.stubs.info("n").await.is_err(), "it was registered");
    assert!(server.stubs.switches().await?.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn an_unknown_model_needs_a_spec() -> Result<()> {
    let server = server().await?;
    for request in both(to("unknown")) {
        let refused = server.stubs.switch(request).await;
        let refused = refusal(refused, Code::NotFound, ErrorReason::ModelNotFound);
        assert_eq!(refused.details().metadata["known_model_ids"], "m");
    }
    assert!(server.stubs.info(ALIAS).await.is_err());
    let (_, spec) = server.script("unknown", &Script::default())?;
    let [checked, request] = both(SwitchModelRequest {
        spec: Some(spec),
        ..to("unknown")
    });
    assert_eq!(server.stubs.switch(checked).await?.switch_id, "");
    assert!(server.stubs.info("unknown").await.is_err());
    let mut watch = server.watch().await?;
    let begun = server.stubs.switch(request).await?;
    let ended = watch.ended(&begun.switch_id).await?;
    assert_eq!(ended.outcome(), SwitchOutcome::Succeeded);
    assert_eq!(target(&server).await?, "unknown");
    Ok(())
}

#[hangar_tests::test]
async fn another_spec_than_the_registered_one_is_refused() -> Result<()> {
    let server = server().await?;
    let (_, spec) = server.script("m", &Script::default())?;
    let other = ModelSpec {
        context_length: 77,
        ..spec
    };
    for request in both(SwitchModelRequest {
        spec: Some(other),
        ..to("m")
    }) {
        let refused = server.stubs.switch(request).await;
        refusal(refused, Code::FailedPrecondition, ErrorReason::SpecConflict);
    }
    assert_eq!(server.stubs.info("m").await?.version, 1);
    assert!(server.stubs.switches().await?.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn an_alias_is_switched_once_at_a_time() -> Result<()> {
    let server = server().await?;
    let mut watch = server.watch().await?;
    point(&server, &mut watch, "m").await?;
    let (path, slow) = server.script("slow", &Script::gated())?;
    let gate = Gate::new(&path, "load")?;
    let request = SwitchModelRequest {
        spec: Some(slow),
        ..switch(ALIAS, "slow", SwitchStrategy::LoadFirst)
    };
    let begun = server.stubs.switch(request).await?;
    watch.until("slow", ModelState::Loading).await?;
    for request in both(to("m")) {
        let refused = server.stubs.switch(request).await;
        let refused = refusal(refused, Code::Aborted, ErrorReason::SwitchInProgress);
        assert_eq!(refused.details().metadata["alias"], ALIAS);
    }
    assert_eq!(target(&server).await?, "m");
    let held = format!("switch/{}", begun.switch_id);
    for model in ["m", "slow"] {
        assert_eq!(server.stubs.info(model).await?.holders, [held.as_str()]);
        let refused = server.client.unload(model).send().await;
        let refused = refusal(refused, Code::FailedPrecondition, ErrorReason::ModelHeld);
        assert_eq!(refused.details().metadata["holders"], held);
    }
    let other = switch("other", "m", SwitchStrategy::LoadFirst);
    let other = server.stubs.switch(other).await?;
    let ended = watch.ended(&other.switch_id).await?;
    assert_eq!(ended.outcome(), SwitchOutcome::Succeeded);
    gate.open()?;
    let ended = watch.ended(&begun.switch_id).await?;
    assert_eq!(ended.outcome(), SwitchOutcome::Succeeded);
    assert_eq!(target(&server).await?, "slow");
    assert_eq!(
        state(&server, "m").await?,
        ModelState::Ready,
        "it is `other`"
    );
    point(&server, &mut watch, "m").await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_repeated_request_is_one_switch() -> Result<()> {
    let server = server().await?;
    let request = SwitchModelRequest {
        request_id: "once".into(),
        ..to("m")
    };
    let mut watch = server.watch().await?;
    let first = server.stubs.switch(request.clone()).await?;
    let ended = watch.ended(&first.switch_id).await?;
    let again = server.stubs.switch(request.clone()).await?;
    assert_eq!(first, again);
    assert_eq!(server.stubs.switches().await?, [ended]);
    let other = SwitchModelRequest {
        alias: "other".into(),
        ..request
    };
    let refused = server.stubs.switch(other).await;
    refusal(refused, Code::InvalidArgument, ErrorReason::RequestIdReused);
    assert!(server.stubs.info("other").await.is_err());
    Ok(())
}
