//! File systems of models that do not answer: who asks is told so, and nobody else notices.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    Error,
    v1::{
        ErrorReason, LoadModelRequest, LoadModelResponse, ModelSpec, ModelState, RestartMode,
        load_model_request::Target,
    },
};
use hangar_tests::{
    background::Background,
    failpoints::Failpoints,
    fixtures::Fixtures,
    processes,
    refusals::refusal,
    scripted::Script,
    server::{TestServer, restarting, spec},
};
use tonic::Code;

/// Calls about the model whose file system hangs.
const CALLS: usize = 40;

/// Loads from its files: more than there may be looks below a root.
const ATTEMPTS: usize = 12;

fn load(id: &str, spec: ModelSpec) -> LoadModelRequest {
    LoadModelRequest {
        target: Some(Target::ModelId(id.to_owned())),
        spec: Some(spec),
        ..LoadModelRequest::default()
    }
}

/// A load that somebody waits for.
type PendingLoad = Background<Result<LoadModelResponse, Error>>;

/// Begins `count` loads of models with the same files.
fn loads_at_once(
    server: &TestServer,
    count: usize,
    wait: bool,
    spec: &ModelSpec,
) -> Vec<PendingLoad> {
    let load = |n: usize| {
        let (stubs, load) = (server.stubs.clone(), load(&format!("m{n}"), spec.clone()));
        let request = LoadModelRequest { wait, ..load };
        Background::start(async move { stubs.load(request).await })
    };
    (0..count).map(load).collect()
}

async fn ends(loads: Vec<PendingLoad>) -> Result<Vec<Result<LoadModelResponse, Error>>> {
    let mut ends = Vec::new();
    for load in loads {
        ends.push(load.end().await?);
    }
    Ok(ends)
}

#[hangar_tests::test]
async fn calls_about_files_that_hang_are_refused_and_take_few_threads() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let elsewhere = Fixtures::new()?;
    let server = TestServer::scripted()
        .script(&Script::default())
        .failpoints(&failpoints)
        .root(&elsewhere.root())
        .start()
        .await?;
    let neighbour = spec(&elsewhere.scripted("n", &Script::default())?);
    let threads = processes::threads(server.pid())?;
    let hung = failpoints.block("look-to-check.m")?;
    let calls = loads_at_once(&server, CALLS, false, &server.spec());
    hung.reached().await?;
    server.client.load("n").spec(neighbour).wait().await?;
    for end in ends(calls).await? {
        let refused = refusal(end, Code::Unavailable, ErrorReason::FilesUnavailable);
        assert!(refused.details().retry_after.is_some(), "{refused:?}");
    }
    let taken = processes::threads(server.pid())?.saturating_sub(threads);
    assert!(taken < CALLS as u64 / 2, "{taken} threads more");
    let unknown = server.client.info().model("m0").send().await;
    refusal(unknown, Code::NotFound, ErrorReason::ModelNotFound);

    drop(hung);
    server.ready().await?;
    assert!(server.terminate().await?.success());
    Ok(())
}

#[hangar_tests::test]
async fn a_load_from_files_that_hang_fails_and_says_why() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&Script::default())
        .failpoints(&failpoints)
        .time("--ready-timeout", Duration::from_secs(1))
        .start()
        .await?;
    let hung = failpoints.block("look-to-load.m")?;
    let spec = restarting(&server.directory, RestartMode::Never, 1);
    let load = server.stubs.load(LoadModelRequest {
        wait: true,
        ..load("m", spec)
    });
    refusal(load.await, Code::Unavailable, ErrorReason::FilesUnavailable);
    hung.reached().await?;
    let failed = server.info().await?.status.context("a status")?;
    assert_eq!(failed.state(), ModelState::Failed);
    assert_eq!(failed.reason, "FILES_UNAVAILABLE");
    assert_eq!(failed.worker_pid, 0);
    Ok(())
}

#[hangar_tests::test]
async fn one_model_that_hangs_leaves_its_neighbours_on_the_same_file_system_alone() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&Script::default())
        .failpoints(&failpoints)
        .start()
        .await?;
    let neighbour = spec(&server.fixtures.scripted("n", &Script::default())?);
    let hung = failpoints.block("look-to-check.m")?;
    // Their looks hang on when they have been refused.
    let refused = ends(loads_at_once(&server, CALLS, false, &server.spec())).await?;
    hung.reached().await?;
    for error in refused {
        let error = refusal(error, Code::Unavailable, ErrorReason::FilesUnavailable);
        assert!(error.message().contains("/m does not answer"), "{error:?}");
    }
    server.load("n", neighbour).await?;
    assert!(!server.answer("n").await?.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn loads_from_files_that_hang_leave_their_neighbours_alone() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&Script::default())
        .failpoints(&failpoints)
        .time("--ready-timeout", Duration::from_secs(5))
        .start()
        .await?;
    let neighbour = spec(&server.fixtures.scripted("n", &Script::default())?);
    let hung = failpoints.block("look-to-load.m")?;
    let never_again = restarting(&server.directory, RestartMode::Never, 1);
    let failed = ends(loads_at_once(&server, ATTEMPTS, true, &never_again)).await?;
    hung.reached().await?;
    for error in failed {
        refusal(error, Code::Unavailable, ErrorReason::FilesUnavailable);
    }
    server.load("n", neighbour).await?;
    assert!(!server.answer("n").await?.is_empty());
    Ok(())
}
