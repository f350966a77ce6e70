//! Sessions that end while something is under way, and servers that end before their sessions.

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, ModelState};
use hangar_tests::{
    background::Background,
    fixtures::Fixtures,
    processes,
    refusals::refusal,
    scripted::{Gate, Script},
    server::{DEADLINE, TestServer},
    stubs::load_for,
};
use tokio::time::timeout;
use tonic::Code;

use super::{load, session};

#[hangar_tests::test]
async fn closing_ends_a_load_that_is_under_way() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let (path, spec) = server.script("m", &Script::gated())?;
    let _gate = Gate::new(&path, "load")?;
    let held = session(&server).await?;
    let mut watch = server.watch().await?;
    let stubs = server.stubs.clone();
    let request = load_for(&held, "m", spec);
    let loading = Background::start(async move { stubs.load(request).await });
    watch.until("m", ModelState::Loading).await?;
    assert_eq!(server.stubs.close(&held.session_id).await?, ["m"]);
    let refused = loading.end().await?;
    refusal(refused, Code::Aborted, ErrorReason::LoadCancelled);
    watch.until("m", ModelState::Unloaded).await?;
    assert!(processes::children(server.pid())?.is_empty());
    Ok(())
}

/// Both calls are sent at once, so that the end of the session comes before, while and after the model's
/// driver hears of the load.
#[hangar_tests::test]
async fn a_load_that_races_with_the_end_of_its_session_leaves_nothing_loaded() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let (_, spec) = server.script("m", &Script::default())?;
    for _ in 0..30 {
        let held = session(&server).await?;
        let request = load_for(&held, "m", spec.clone());
        let (loaded, closed) = tokio::join!(
            server.stubs.load(request),
            server.stubs.close(&held.session_id)
        );
        closed?;
        let refused = loaded.err().and_then(|error| error.reason());
        let expected = [ErrorReason::SessionNotFound, ErrorReason::LoadCancelled];
        assert!(
            refused.is_none_or(|reason| expected.contains(&reason)),
            "{refused:?}"
        );
        timeout(DEADLINE, until_unloaded(&server)).await?;
    }
    assert!(processes::children(server.pid())?.is_empty());
    Ok(())
}

/// Asks until the model is not loaded, or not even registered. A watch would not show that nothing more comes.
async fn until_unloaded(server: &TestServer) {
    while let Ok(info) = server.stubs.info("m").await {
        assert!(info.holders.is_empty());
        if info.status.unwrap_or_default().state() == ModelState::Unloaded {
            break;
        }
    }
}

#[hangar_tests::test]
async fn sessions_end_with_the_server_and_leave_nothing_to_load() -> Result<()> {
    let data = tempfile::tempdir()?;
    let fixtures = Fixtures::new()?;
    let options = TestServer::real().fixtures(&fixtures).data_in(data.path());
    let server = options.start().await?;
    let held = session(&server).await?;
    load(&server, &held, "held", server.llama_spec()?).await?;
    server.qwen("asked-for").await?;
    let answer = server.answer("asked-for").await?;

    let server = server.killed_and_started(&options).await?;
    let mut watch = server.watch().await?;
    watch.until("asked-for", ModelState::Ready).await?;
    assert_eq!(server.answer("asked-for").await?, answer);
    let info = server.stubs.info("held").await?;
    assert_eq!(
        info.status.context("a status")?.state(),
        ModelState::Unloaded
    );
    assert!(info.holders.is_empty());
    assert!(!server.stubs.is_desired("held").await?);
    assert_eq!(processes::children(server.pid())?.len(), 1);
    let gone = server.stubs.session(&held.session_id).await;
    refusal(gone, Code::NotFound, ErrorReason::SessionNotFound);
    Ok(())
}
