//! What cannot be loaded is not loaded anew: the old worker serves on.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    Refusal,
    v1::{ErrorReason, LoadModelRequest, ModelInfo, ModelSpec, load_model_request},
};
use hangar_tests::{
    processes::children,
    refusals::refusal,
    scripted::{Fault, ReadyKind, Script},
    server::TestServer,
};
use tonic::Code;

/// What a refused reload must leave as it was.
fn kept(info: &ModelInfo) -> impl PartialEq + std::fmt::Debug {
    let status = info.status.clone().unwrap_or_default();
    (
        (status.state(), status.generation, status.worker_pid),
        (status.load_id, info.version, info.etag.clone()),
        (info.desired_state, info.recent_loads.clone()),
    )
}

fn assert_serves_on(refused: &Refusal) {
    assert!(refused.message().contains("serves on"), "{refused}");
}

#[hangar_tests::test]
async fn files_that_have_become_unusable_are_refused_and_the_model_serves_on() -> Result<()> {
    let server = TestServer::tiny().await?;
    let answer = server.greedy("Hello").max_tokens(5).text().await?.text;
    let before = server.info().await?;
    let config = server.fixtures.llama()?.join("config.json");
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, "{")?;
    for wait in [false, true] {
        let reload = server.client.load("m").force_reload();
        let refused = if wait {
            reload.wait().await
        } else {
            reload.send().await
        };
        let refused = refusal(
            refused,
            Code::FailedPrecondition,
            ErrorReason::ModelUnusable,
        );
        assert_serves_on(&refused);
        assert!(refused.message().contains("config.json"), "{refused}");
    }
    assert_eq!(kept(&server.info().await?), kept(&before));
    let again = server.greedy("Hello").max_tokens(5).text().await?.text;
    assert_eq!(again, answer);
    assert_eq!(children(server.pid())?.len(), 1);
    std::fs::write(&config, text)?;
    server.client.load("m").force_reload().wait().await?;
    assert_ne!(kept(&server.info().await?), kept(&before));
    Ok(())
}

#[hangar_tests::test]
async fn validate_only_looks_at_the_files_as_the_reload_would() -> Result<()> {
    let server = TestServer::tiny().await?;
    let before = server.info().await?;
    let validate = async || {
        let request = LoadModelRequest {
            target: Some(load_model_request::Target::ModelId("m".into())),
            force_reload: true,
            validate_only: true,
            ..LoadModelRequest::default()
        };
        server.stubs.load(request).await
    };
    assert!(validate().await?.loads.is_empty());
    let config = server.fixtures.llama()?.join("config.json");
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, "{")?;
    let unusable = |refused| {
        refusal(
            refused,
            Code::FailedPrecondition,
            ErrorReason::ModelUnusable,
        )
    };
    let foretold = unusable(validate().await.map(drop));
    let refused = server.client.load("m").force_reload().send().await;
    let refused = unusable(refused.map(drop));
    assert_eq!(foretold.message(), refused.message());
    assert_serves_on(&foretold);
    std::fs::write(&config, text)?;
    assert!(validate().await?.loads.is_empty());
    assert_eq!(kept(&server.info().await?), kept(&before));
    assert_eq!(children(server.pid())?.len(), 1);
    Ok(())
}

#[hangar_tests::test]
async fn a_spec_that_cannot_be_loaded_is_not_registered() -> Result<()> {
    let server = TestServer::tiny().await?;
    let before = server.info().await?;
    let spec = before.spec.clone();
    let spec = match spec {
        Some(spec) => spec,
        None => server
            .client
            .get_model("m")
            .send()
            .await?
            .spec
            .context("a spec")?,
    };
    let wider = ModelSpec {
        quantization: "no such type".to_owned(),
        ..spec.clone()
    };
    let longer = ModelSpec {
        context_length: 1_000_000,
        ..spec
    };
    for other in [wider, longer] {
        let reload = server.client.load("m").spec(other).force_reload();
        assert!(reload.wait().await.is_err());
        assert_eq!(kept(&server.info().await?), kept(&before));
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_worker_that_dies_or_says_nothing_in_its_inspection_leaves_the_old_one() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .time("--ready-timeout", Duration::from_secs(10))
        .start()
        .await?;
    server.ready().await?;
    let before = server.info().await?;
    for (ready, code, reason) in [
        (
            ReadyKind::Die(Fault::Kill),
            Code::Unavailable,
            ErrorReason::WorkerDied,
        ),
        (
            ReadyKind::Never,
            Code::DeadlineExceeded,
            ErrorReason::LoadStalled,
        ),
    ] {
        let script = Script {
            ready,
            ..Script::default()
        };
        script.write(&server.directory)?;
        let refused = server.client.load("m").force_reload().wait().await;
        assert_serves_on(&refusal(refused, code, reason));
        assert_eq!(kept(&server.info().await?), kept(&before));
        server
            .client
            .generate("m")
            .prompt("x")
            .max_tokens(1)
            .text()
            .await?;
        assert_eq!(children(server.pid())?.len(), 1);
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_model_whose_files_vanished_is_not_reloaded() -> Result<()> {
    let server = TestServer::tiny().await?;
    let before = server.info().await?;
    std::fs::remove_dir_all(server.fixtures.llama()?)?;
    let refused = server.client.load("m").force_reload().wait().await;
    refusal(
        refused,
        Code::FailedPrecondition,
        ErrorReason::ModelUnusable,
    );
    assert_eq!(kept(&server.info().await?), kept(&before));
    server.greedy("Hello").max_tokens(1).text().await?;
    Ok(())
}
