//! File systems of models that do not answer: who asks is told so, and nobody else notices.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::v1::{
    ErrorReason, LoadModelRequest, ModelSpec, ModelState, RestartMode, load_model_request::Target,
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

fn load(id: &str, spec: ModelSpec) -> LoadModelRequest {
    LoadModelRequest {
        target: Some(Target::ModelId(id.to_owned())),
        spec: Some(spec),
        ..LoadModelRequest::default()
    }
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
    let call = |n: usize| {
        let (stubs, request) = (server.stubs.clone(), load(&format!("m{n}"), server.spec()));
        Background::start(async move { stubs.load(request).await })
    };
    let calls: Vec<_> = (0..CALLS).map(call).collect();
    hung.reached().await?;
    server.client.load("n").spec(neighbour).wait().await?;
    for call in calls {
        let refused = refusal(
            call.end().await?,
            Code::Unavailable,
            ErrorReason::FilesUnavailable,
        );
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
