//! When the server says that it is ready.

use anyhow::{Context, Result};
use hangar_client::v1::{
    ModelSpec,
    ModelState::{Failed, Ready},
};
use hangar_tests::{
    http,
    installation::Installation,
    scripted::{Gate, LoadKind, Script},
    server::{DEADLINE, TestServer, TestServerBuilder, spec},
};
use tokio::time::timeout;
use tonic::{Streaming, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus::{self, NotServing, Serving},
    health_client::HealthClient,
};

/// Readiness as the ops port reports it, from now on.
pub(super) async fn readiness(server: &TestServer) -> Result<Streaming<HealthCheckResponse>> {
    let ops = format!("http://{}", server.ops_listen());
    let channel = Endpoint::from_shared(ops)?.connect().await?;
    let request = HealthCheckRequest {
        service: "readiness".to_owned(),
    };
    Ok(HealthClient::new(channel)
        .watch(request)
        .await?
        .into_inner())
}

/// What it becomes next.
pub(super) async fn next(stream: &mut Streaming<HealthCheckResponse>) -> Result<ServingStatus> {
    let message = timeout(DEADLINE, stream.message()).await;
    let message = message.context("readiness does not change")??;
    Ok(message.context("the health watch ended")?.status())
}

/// Waits until a model has failed.
async fn has_failed(server: &TestServer, model: &str) -> Result<()> {
    let mut failing = server.follow(model).await?;
    while failing
        .current()
        .is_none_or(|status| status.state() != Failed)
    {
        failing.next().await?;
    }
    Ok(())
}

fn strict(options: TestServerBuilder) -> TestServerBuilder {
    options.argument("--readiness").argument("required")
}

fn unusable() -> Script {
    Script::loading(LoadKind::Fail {
        reason: "MODEL_UNUSABLE".into(),
        message: "It will never work. Give it up.".into(),
    })
}

/// A catalog with the required models "good", which waits at a gate, and "bad", which fails, and another
/// model "slow" that is only to be loaded and waits too.
async fn prepare(installation: &Installation) -> Result<[Gate; 2]> {
    let server = installation.start().await?;
    let client = server.connect().await?;
    let good = installation.model("good", &Script::gated())?;
    let bad = installation.model("bad", &unusable())?;
    let slow = installation.model("slow", &Script::gated())?;
    let required = |path| ModelSpec {
        required: true,
        ..spec(path)
    };
    client.load("good").spec(required(&good)).wait().await?;
    assert!(
        client
            .load("bad")
            .spec(required(&bad))
            .wait()
            .await
            .is_err()
    );
    client.load("slow").spec(spec(&slow)).wait().await?;
    let gates = [Gate::new(&good, "load")?, Gate::new(&slow, "load")?];
    installation.kill(server).await?;
    Ok(gates)
}

#[hangar_tests::test]
async fn readiness_waits_until_each_required_model_was_ready_or_failed() -> Result<()> {
    let installation = Installation::scripted()?;
    let [good, _slow] = prepare(&installation).await?;
    let server = installation.start().await?;
    let mut reported = readiness(&server).await?;
    assert_eq!(next(&mut reported).await?, NotServing);
    has_failed(&server, "bad").await?;
    // The bad one has failed; the good one is still on its way.
    let ops = server.ops_listen();
    assert_eq!(http::get(ops, "/readyz").await?.status, 503);
    assert_eq!(http::get(ops, "/startupz").await?.status, 200);
    assert_eq!(http::get(ops, "/livez").await?.status, 200);
    good.step(1)?;
    // Neither the bad one nor one that is not required holds it up.
    assert_eq!(next(&mut reported).await?, Serving);
    assert_eq!(http::get(ops, "/readyz").await?.status, 200);
    Ok(())
}

#[hangar_tests::test]
async fn readiness_stays_when_a_required_model_is_unloaded_later() -> Result<()> {
    let installation = Installation::scripted()?;
    let [good, _slow] = prepare(&installation).await?;
    let server = installation.start().await?;
    let mut reported = readiness(&server).await?;
    good.step(1)?;
    while next(&mut reported).await? != Serving {}
    server
        .connect()
        .await?
        .unload("good")
        .force()
        .send()
        .await?;
    let ops = server.ops_listen();
    assert_eq!(http::get(ops, "/readyz").await?.status, 200);
    Ok(())
}

#[hangar_tests::test]
async fn strict_readiness_needs_every_required_model() -> Result<()> {
    let installation = Installation::scripted()?;
    let [good, _slow] = prepare(&installation).await?;
    let server = installation.with(strict).await?;
    let mut reported = readiness(&server).await?;
    good.step(1)?;
    server.follow("good").await?.until(Ready).await?;
    let ops = server.ops_listen();
    assert_eq!(http::get(ops, "/readyz").await?.status, 503);
    has_failed(&server, "bad").await?;
    installation.model("bad", &Script::default())?;
    let client = server.connect().await?;
    client.load("bad").wait().await?;
    assert_eq!(next(&mut reported).await?, NotServing);
    assert_eq!(next(&mut reported).await?, Serving);
    client.unload("good").force().send().await?;
    assert_eq!(next(&mut reported).await?, NotServing);
    Ok(())
}

#[hangar_tests::test]
async fn readiness_does_not_wait_for_a_required_model_that_was_unloaded() -> Result<()> {
    let installation = Installation::scripted()?;
    let [_good, _slow] = prepare(&installation).await?;
    let server = installation.start().await?;
    let mut reported = readiness(&server).await?;
    assert_eq!(next(&mut reported).await?, NotServing);
    server
        .connect()
        .await?
        .unload("good")
        .force()
        .send()
        .await?;
    assert_eq!(next(&mut reported).await?, Serving);
    Ok(())
}
