//! A model that was evicted or unloaded for being idle is left alone until somebody asks for it.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    WatchEvent,
    convert::to_proto_duration,
    v1::{
        DesiredState::Loaded,
        ErrorReason, ModelSpec,
        ModelState::{Ready, Unloaded},
        SuspendReason::{self, Evicted, Idle, Unspecified},
    },
};
use hangar_tests::{
    info,
    installation::Installation,
    refusals::refusal,
    scripted::{LoadScript, Script},
    server::{DEADLINE, TestServer, TestServerBuilder, spec},
};
use tokio::time::timeout;
use tonic::Code;

const MIB: u64 = 1 << 20;

/// A model that takes so much memory and says so.
fn taking(bytes: u64) -> Script {
    Script {
        need_host_bytes: bytes,
        load: LoadScript {
            memory_bytes: bytes,
            ..LoadScript::default()
        },
        ..Script::default()
    }
}

/// Room for one model of 100 MiB.
fn small(options: TestServerBuilder) -> TestServerBuilder {
    options.argument("--memory-limit").argument("150MiB")
}

/// The model is suspended for `reason`, also in its second life, and LoadModel lifts that for good.
async fn stays_suspended(
    installation: &Installation,
    server: TestServer,
    reason: SuspendReason,
) -> Result<()> {
    let reported = assert_suspended(&server, reason).await?;
    // The next change writes down what came before it.
    let flush = installation.model("flush", &Script::default())?;
    server
        .connect()
        .await?
        .load("flush")
        .spec(spec(&flush))
        .wait()
        .await?;
    installation.kill(server).await?;

    let server = installation.with(small).await?;
    server.follow("flush").await?.until(Ready).await?;
    assert_eq!(assert_suspended(&server, reason).await?, reported);
    let client = server.connect().await?;
    let early = client.generate("m").prompt("x").text().await;
    let early = refusal(early, Code::FailedPrecondition, ErrorReason::ModelNotLoaded);
    assert!(early.message().contains(&reported), "{early}");
    if reason == Evicted {
        client.unload("other").send().await?;
    }
    let ready = client.load("m").wait().await?.status.context("a status")?;
    assert_eq!(ready.suspend_reason(), Unspecified);
    assert!(ready.message.is_empty());
    installation.kill(server).await?;

    let server = installation.with(small).await?;
    let back = server.follow("m").await?.until(Ready).await?;
    assert_eq!(back.suspend_reason(), Unspecified);
    Ok(())
}

/// The model is suspended for `reason`, as GetInfo and the watch report it; gives the words.
async fn assert_suspended(server: &TestServer, reason: SuspendReason) -> Result<String> {
    let info = info::model(&server.connect().await?, "m").await?;
    let status = info.status.clone().context("a status")?;
    assert_eq!(status.state(), Unloaded);
    assert_eq!(
        (info.desired_state(), info.suspend_reason()),
        (Loaded, reason)
    );
    let transitions = server.follow("m").await?;
    let watched = transitions.current().context("a status")?;
    assert_eq!(watched.suspend_reason(), reason);
    assert_eq!(
        (watched.state(), &watched.message),
        (Unloaded, &status.message)
    );
    assert!(status.reason.is_empty(), "nothing went wrong");
    Ok(status.message)
}

#[hangar_tests::test]
async fn an_evicted_model_stays_suspended_until_it_is_loaded() -> Result<()> {
    let installation = Installation::scripted()?;
    let server = installation.with(small).await?;
    let client = server.connect().await?;
    let mut transitions = server.follow("m").await?;
    for id in ["m", "other"] {
        let directory = installation.model(id, &taking(100 * MIB))?;
        client.load(id).spec(spec(&directory)).wait().await?;
    }
    let gone = transitions.until(Unloaded).await?;
    assert!(
        gone.message.contains("make room for other"),
        "{}",
        gone.message
    );
    stays_suspended(&installation, server, Evicted).await
}

#[hangar_tests::test]
async fn an_idle_model_stays_suspended_until_it_is_loaded() -> Result<()> {
    let installation = Installation::scripted()?;
    let server = installation.with(small).await?;
    let client = server.connect().await?;
    let mut transitions = server.follow("m").await?;
    let directory = installation.model("m", &Script::default())?;
    let spec = ModelSpec {
        idle_timeout: Some(to_proto_duration(Duration::from_secs(1))),
        ..spec(&directory)
    };
    client.load("m").spec(spec).wait().await?;
    transitions.until(Ready).await?;
    let gone = transitions.until(Unloaded).await?;
    assert!(gone.message.contains("idle_timeout"), "{}", gone.message);
    stays_suspended(&installation, server, Idle).await
}

#[hangar_tests::test]
async fn an_unload_ends_the_suspension() -> Result<()> {
    let installation = Installation::scripted()?;
    let server = installation.with(small).await?;
    let client = server.connect().await?;
    for id in ["m", "other"] {
        let directory = installation.model(id, &taking(100 * MIB))?;
        client.load(id).spec(spec(&directory)).wait().await?;
    }
    assert_eq!(info::model(&client, "m").await?.suspend_reason(), Evicted);
    let mut watch = client.watch().model("m").stream();
    watch.next().await.context("a snapshot")??;
    client.unload("m").send().await?;
    let after = info::model(&client, "m").await?;
    assert_eq!(after.suspend_reason(), Unspecified);
    assert!(after.status.context("a status")?.message.is_empty());
    // A watcher hears of it although nothing else has changed.
    let reported = timeout(DEADLINE, watch.next()).await?;
    match reported.context("the watch ended")?? {
        WatchEvent::Progress { status } => assert_eq!(status.suspend_reason(), Unspecified),
        event => anyhow::bail!("{event:?}"),
    }
    Ok(())
}
