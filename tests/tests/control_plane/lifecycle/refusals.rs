//! Calls that are refused change nothing, not even for a moment: nothing is written.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, ModelSpec, SwitchModelRequest, SwitchStrategy};
use hangar_tests::{
    fixtures::Fixtures,
    refusals::refusal,
    scripted::Script,
    server::{TestServer, spec},
    stubs::{load_for, switch, unload},
};
use tonic::Code;

/// What is on disk of the catalog, byte for byte.
fn catalog(server: &TestServer) -> Result<Vec<Vec<u8>>> {
    let read = |name: &str| std::fs::read(server.data_dir().join(name));
    ["catalog.db", "catalog.db-wal"]
        .into_iter()
        .map(|name| read(name).with_context(|| name.to_owned()))
        .collect()
}

/// A server that writes nothing by itself, with the model "m", which a session holds and which has the alias
/// "a", and the model "n", which is required.
async fn server() -> Result<TestServer> {
    let fixtures = Fixtures::new()?;
    let hour = Duration::from_secs(3600);
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .time("--history-interval", hour);
    let server = options.start().await?;
    let (_, m) = server.script("m", &Script::default())?;
    let (_, n) = server.script("n", &Script::default())?;
    let session = server.stubs.create_session(None).await?;
    server.stubs.load(load_for(&session, "m", m)).await?;
    server.client.load("m").wait().await?;
    let required = ModelSpec {
        required: true,
        ..n
    };
    server.client.load("n").spec(required).wait().await?;
    let entry = server.client.get_model("m").send().await?;
    let update = server
        .client
        .update_model("m")
        .etag(entry.etag)
        .aliases(["a"]);
    update.send().await?;
    // What is still to be written of what was before is written before this.
    let idle = spec(&server.fixtures.scripted("idle", &Script::default())?);
    server.client.create_model("idle", idle).send().await?;
    Ok(server)
}

#[hangar_tests::test]
async fn refused_unloads_and_deletes_write_nothing() -> Result<()> {
    let server = server().await?;
    let client = &server.client;
    let before = catalog(&server)?;
    let kept = || {
        assert_eq!(catalog(&server)?, before);
        anyhow::Ok(())
    };
    refusal(
        client.unload("m").send().await,
        Code::FailedPrecondition,
        ErrorReason::ModelHeld,
    );
    kept()?;
    refusal(
        server.stubs.unload(unload("n")).await,
        Code::FailedPrecondition,
        ErrorReason::ModelRequired,
    );
    kept()?;
    for id in ["m", "a"] {
        let deleted = client.delete_model(id).send().await;
        assert!(deleted.is_err(), "{id}");
        kept()?;
    }
    Ok(())
}

#[hangar_tests::test]
async fn refused_loads_write_nothing() -> Result<()> {
    let server = server().await?;
    let client = &server.client;
    let before = catalog(&server)?;
    let kept = || {
        assert_eq!(catalog(&server)?, before);
        anyhow::Ok(())
    };
    let other = ModelSpec {
        context_length: 77,
        ..spec(&server.fixtures.scripted("m", &Script::default())?)
    };
    refusal(
        client.load("m").spec(other).wait().await,
        Code::FailedPrecondition,
        ErrorReason::SpecConflict,
    );
    kept()?;
    let nowhere = spec(&server.fixtures.root().join("nowhere"));
    for id in ["new", "m"] {
        let load = client.load(id).spec(nowhere.clone()).force_reload();
        refusal(
            load.send().await,
            Code::FailedPrecondition,
            ErrorReason::ModelUnusable,
        );
        kept()?;
    }
    let fresh = spec(&server.fixtures.scripted("fresh", &Script::default())?);
    refusal(
        client
            .load("fresh")
            .spec(fresh)
            .session("none")
            .send()
            .await,
        Code::NotFound,
        ErrorReason::SessionNotFound,
    );
    kept()
}

#[hangar_tests::test]
async fn refused_switches_and_updates_write_nothing() -> Result<()> {
    let server = server().await?;
    let before = catalog(&server)?;
    let kept = || {
        assert_eq!(catalog(&server)?, before);
        anyhow::Ok(())
    };
    let fresh = spec(&server.fixtures.scripted("fresh", &Script::default())?);
    let to_fresh = |alias: &str| SwitchModelRequest {
        spec: Some(fresh.clone()),
        ..switch(alias, "fresh", SwitchStrategy::LoadFirst)
    };
    refusal(
        server.stubs.switch(to_fresh("m")).await,
        Code::AlreadyExists,
        ErrorReason::ModelExists,
    );
    kept()?;
    let nowhere = SwitchModelRequest {
        spec: Some(spec(&server.fixtures.root().join("nowhere"))),
        ..to_fresh("a")
    };
    refusal(
        server.stubs.switch(nowhere).await,
        Code::FailedPrecondition,
        ErrorReason::ModelUnusable,
    );
    kept()?;
    let stale = server.client.update_model("m").etag("stale");
    refusal(
        stale.display_name("x").send().await,
        Code::Aborted,
        ErrorReason::EtagMismatch,
    );
    kept()?;
    let unknown = server.client.delete_model("none").send().await;
    refusal(unknown, Code::NotFound, ErrorReason::ModelNotFound);
    kept()
}
