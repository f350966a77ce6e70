//! Models that should be loaded come back by themselves, and no others.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    Client,
    v1::{
        DesiredState::{Loaded, Unloaded as NotDesired},
        ErrorReason, ModelSpec,
        ModelState::{Ready, Unloaded},
    },
};
use hangar_tests::{info, installation::Installation, refusals::refusal, server::spec};
use tonic::Code;

async fn answer(client: &Client, model: &str) -> Result<String> {
    let answer = client.generate(model).prompt("Hello").temperature(0.0);
    Ok(answer.max_tokens(20).text().await?.text)
}

#[hangar_tests::test]
async fn a_loaded_model_comes_back_by_itself_after_a_kill() -> Result<()> {
    let installation = Installation::real()?;
    let path = installation.fixtures.llama()?;
    let server = installation.start().await?;
    let client = server.connect().await?;
    client.load("m").spec(spec(&path)).wait().await?;
    client.switch("chat", "m").wait().await?;
    let expected = answer(&client, "chat").await?;
    let before = info::model(&client, "m").await?;
    installation.kill(server).await?;

    let server = installation.start().await?;
    let client = server.connect().await?;
    let ready = server.follow("m").await?.until(Ready).await?;
    assert_ne!(ready.worker_pid, 0);
    let after = info::model(&client, "m").await?;
    assert_eq!(after.aliases, ["chat"]);
    assert_eq!(after.desired_state(), Loaded);
    assert_eq!(
        (after.version, &after.etag, &after.spec),
        (before.version, &before.etag, &before.spec)
    );
    assert_eq!(answer(&client, "chat").await?, expected);
    server.terminate().await?;
    assert_eq!(installation.sockets()?, 0);
    Ok(())
}

#[hangar_tests::test]
async fn an_unloaded_model_stays_unloaded() -> Result<()> {
    let installation = Installation::real()?;
    let path = installation.fixtures.llama()?;
    let server = installation.start().await?;
    let client = server.connect().await?;
    client.load("m").spec(spec(&path)).wait().await?;
    client.load("other").spec(spec(&path)).wait().await?;
    client.unload("m").send().await?;
    installation.kill(server).await?;

    let server = installation.start().await?;
    let client = server.connect().await?;
    // What begins at the start has begun before the server serves.
    server.follow("other").await?.until(Ready).await?;
    let after = info::model(&client, "m").await?;
    let status = after.status.clone().context("a status")?;
    assert_eq!((status.state(), status.generation), (Unloaded, 0));
    assert_eq!(after.desired_state(), NotDesired);
    let early = client.generate("m").prompt("x").text().await;
    refusal(early, Code::FailedPrecondition, ErrorReason::ModelNotLoaded);
    Ok(())
}

#[hangar_tests::test]
async fn a_clean_shutdown_keeps_desired_state() -> Result<()> {
    let installation = Installation::real()?;
    let path = installation.fixtures.llama()?;
    let server = installation.start().await?;
    let client = server.connect().await?;
    client.load("m").spec(spec(&path)).wait().await?;
    client.load("gone").spec(spec(&path)).send().await?;
    client.unload("gone").send().await?;
    assert!(server.terminate().await?.success());

    let server = installation.start().await?;
    server.follow("m").await?.until(Ready).await?;
    let client = server.connect().await?;
    assert_eq!(
        info::model(&client, "gone").await?.desired_state(),
        NotDesired
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_model_that_only_a_session_wanted_does_not_come_back() -> Result<()> {
    let installation = Installation::real()?;
    let path = installation.fixtures.llama()?;
    let server = installation.start().await?;
    let client = server.connect().await?;
    let session = client.open_session(Duration::from_secs(60)).await?;
    let load = client.load("m").spec(spec(&path)).session(&session);
    load.wait().await?;
    client.load("other").spec(spec(&path)).wait().await?;
    installation.kill(server).await?;

    let server = installation.start().await?;
    server.follow("other").await?.until(Ready).await?;
    let after = info::model(&server.connect().await?, "m").await?;
    assert_eq!(after.desired_state(), NotDesired);
    assert_eq!(after.status.context("a status")?.state(), Unloaded);
    assert!(after.holders.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn required_and_preloaded_models_are_loaded_at_each_start() -> Result<()> {
    let installation = Installation::real()?;
    let path = installation.fixtures.llama()?;
    let server = installation.start().await?;
    let client = server.connect().await?;
    let flagged = |required, preload| ModelSpec {
        required,
        preload,
        ..spec(&path)
    };
    client
        .load("required")
        .spec(flagged(true, false))
        .wait()
        .await?;
    client
        .load("preload")
        .spec(flagged(false, true))
        .wait()
        .await?;
    let refused = client.unload("required").send().await;
    refusal(
        refused,
        Code::FailedPrecondition,
        ErrorReason::ModelRequired,
    );
    client.unload("required").force().send().await?;
    client.unload("preload").send().await?;
    installation.kill(server).await?;

    let server = installation.start().await?;
    for id in ["required", "preload"] {
        server.follow(id).await?.until(Ready).await?;
        let after = info::model(&server.connect().await?, id).await?;
        assert_eq!(after.desired_state(), Loaded, "{id}");
    }
    Ok(())
}
