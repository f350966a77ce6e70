//! The server serves before it has begun the loads that were asked for: what is asked of it meanwhile holds.

use anyhow::{Context, Result};
use hangar_client::{
    Client,
    v1::{DesiredState, ModelSpec, ModelState, ModelStatus},
};
use hangar_tests::{
    failpoints::Failpoints,
    info,
    installation::Installation,
    processes,
    scripted::Script,
    server::{DEADLINE, TestServer, spec},
};
use rustix::process::Signal;
use tonic_health::pb::health_check_response::ServingStatus;

use super::readiness::{next, readiness};

/// A client of the one server, which has not announced yet where it serves.
async fn early_client(installation: &Installation) -> Result<Client> {
    let server = installation.processes();
    let server = *server.first().context("there is no server")?;
    for address in processes::listening(server)? {
        let client = Client::connect(format!("http://{address}")).await?;
        // The other one is the ops port.
        if client.info().send().await.is_ok() {
            return Ok(client);
        }
    }
    anyhow::bail!("nobody answers")
}

async fn status(client: &Client, model: &str) -> Result<ModelStatus> {
    let status = info::model(client, model).await?.status;
    status.context("a status")
}

/// Models with a context of 64: five that are loaded, two of which have to be, and two that the start loads though nobody
/// asks for them.
async fn prepare(installation: &Installation) -> Result<()> {
    let server = installation.start().await?;
    for id in ["changed", "deleted", "needed", "stays", "unloaded"] {
        let path = installation.model(id, &Script::default())?;
        let spec = ModelSpec {
            required: matches!(id, "deleted" | "needed"),
            context_length: 64,
            ..spec(&path)
        };
        server.client.load(id).spec(spec).wait().await?;
    }
    for id in ["preloaded", "required"] {
        let path = installation.model(id, &Script::default())?;
        let spec = ModelSpec {
            required: id == "required",
            preload: id == "preloaded",
            ..spec(&path)
        };
        server.client.load(id).spec(spec).wait().await?;
        server.client.unload(id).force().send().await?;
    }
    installation.kill(server).await
}

/// Starts the next server, which begins no load before `meanwhile` has ended. Gives what became of the start.
async fn start_with(
    installation: &Installation,
    meanwhile: impl Future<Output = Result<()>>,
) -> Result<Result<TestServer>> {
    let failpoints = Failpoints::new()?;
    let held = failpoints.hold("reconcile")?;
    let start = installation.with(|options| options.failpoints(&failpoints));
    let meanwhile = async {
        held.reached().await?;
        meanwhile.await?;
        drop(held);
        Ok(())
    };
    let (started, meanwhile) = tokio::join!(start, meanwhile);
    meanwhile.map(|()| started)
}

/// Waits until readiness waits for no model any more.
async fn becomes_ready(server: &TestServer) -> Result<()> {
    let mut reported = readiness(server).await?;
    while next(&mut reported).await? != ServingStatus::Serving {}
    Ok(())
}

#[hangar_tests::test]
async fn what_is_asked_for_while_the_server_starts_holds() -> Result<()> {
    let installation = Installation::scripted()?;
    prepare(&installation).await?;
    let meanwhile = async {
        let client = early_client(&installation).await?;
        client.unload("unloaded").send().await?;
        for id in ["needed", "preloaded", "required"] {
            client.unload(id).force().send().await?;
        }
        client.delete_model("deleted").send().await?;
        let edited = client.edit_model("changed").send(|model| {
            model.spec.get_or_insert_default().context_length = 32;
        });
        edited.await?.context("nothing was changed")?;
        Ok(())
    };
    let server = start_with(&installation, meanwhile).await??;

    let client = server.connect().await?;
    for id in ["changed", "stays"] {
        client.load(id).wait().await?;
    }
    let changed = info::model(&client, "changed").await?;
    assert!(!changed.reload_required, "{changed:?}");
    assert_eq!(changed.recent_loads.len(), 2);
    for id in ["needed", "preloaded", "required", "unloaded"] {
        assert_eq!(status(&client, id).await?.state(), ModelState::Unloaded);
        let info = info::model(&client, id).await?;
        assert_eq!(info.desired_state(), DesiredState::Unloaded);
    }
    becomes_ready(&server).await
}

#[hangar_tests::test]
async fn an_unload_of_all_while_the_server_starts_holds() -> Result<()> {
    let installation = Installation::scripted()?;
    prepare(&installation).await?;
    let meanwhile = async {
        let client = early_client(&installation).await?;
        client.unload_all().force().send().await?;
        Ok(())
    };
    let server = start_with(&installation, meanwhile).await??;
    let client = server.connect().await?;
    for model in client.info().send().await?.models {
        let status = model.status.context("a status")?;
        assert_eq!(status.state(), ModelState::Unloaded, "{status:?}");
    }
    becomes_ready(&server).await
}

#[hangar_tests::test]
async fn a_catalog_that_cannot_be_read_any_more_ends_the_start() -> Result<()> {
    let installation = Installation::scripted()?;
    prepare(&installation).await?;
    let meanwhile = async {
        let catalog = rusqlite::Connection::open(installation.data_dir().join("catalog.db"))?;
        catalog.execute_batch("ALTER TABLE models RENAME TO lost")?;
        Ok(())
    };
    let Err(error) = start_with(&installation, meanwhile).await? else {
        anyhow::bail!("the server serves without a catalog")
    };
    let log = format!("{error:#}");
    assert!(log.contains("the server ended"), "{log}");
    assert!(log.contains("catalog"), "{log}");
    Ok(())
}

/// Has the server that is starting end, before it has announced where it serves.
async fn end_early(installation: &Installation) -> Result<()> {
    let server = installation.processes();
    let server = *server.first().context("there is no server")?;
    processes::signal(server, Signal::TERM)?;
    processes::ended(server, DEADLINE).await
}

#[hangar_tests::test]
async fn a_server_that_begins_its_loads_ends_in_order_when_it_is_told_to() -> Result<()> {
    let installation = Installation::scripted()?;
    prepare(&installation).await?;
    let started = start_with(&installation, end_early(&installation)).await?;
    assert!(started.is_err(), "it announced itself");
    // None of it counts as an attempt, and all is still asked for.
    let server = installation.start().await?;
    let client = server.connect().await?;
    client.load("stays").wait().await?;
    assert_eq!(status(&client, "stays").await?.attempt, 1);
    Ok(())
}

#[hangar_tests::test]
async fn a_server_whose_start_is_held_up_by_the_system_ends_when_it_is_told_to() -> Result<()> {
    let installation = Installation::scripted()?;
    let failpoints = Failpoints::new()?;
    let blocked = failpoints.block("start")?;
    let start = installation.with(|options| options.failpoints(&failpoints));
    let end = async {
        blocked.reached().await?;
        end_early(&installation).await
    };
    let (started, ended) = tokio::join!(start, end);
    ended?;
    assert!(started.is_err(), "it announced itself");
    Ok(())
}
