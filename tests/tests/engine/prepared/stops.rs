//! Preparing holds nothing up, and leaves nothing behind.

use std::time::Duration;

use anyhow::Result;
use hangar_client::v1::ModelState;
use hangar_tests::{
    info, processes,
    server::{DEADLINE, NEVER},
};
use tokio::time::timeout;

use super::PreparedServer;

#[hangar_tests::test]
async fn an_unload_does_not_wait_for_weights_to_be_prepared() -> Result<()> {
    let server = PreparedServer::with(|options| options.time("--kill-timeout", NEVER)).await?;
    let model = server.model("q4k")?;
    for _ in 0..5 {
        server.load(&model).await?;
        let unload = timeout(DEADLINE, server.client.unload("m").send()).await??;
        assert!(unload.was_loaded && !unload.killed);
        server.names_when(|_| true).await?;
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_killed_worker_leaves_no_half_written_entry() -> Result<()> {
    let server =
        PreparedServer::with(|options| options.time("--kill-timeout", Duration::from_millis(200)))
            .await?;
    let model = server.model("q4k")?;
    let mut transitions = server.follow("m").await?;
    server.client.load("m").spec(model.clone()).send().await?;
    let worker = transitions.until(ModelState::Warming).await?.worker_pid;
    // From here on the worker does nothing by itself.
    processes::stop(worker, DEADLINE).await?;
    server.client.unload("m").send().await?;
    assert!(!processes::exists(worker));
    server.names_when(|_| true).await?;
    server.turn(&model).await?;
    Ok(())
}

#[hangar_tests::test]
async fn models_of_the_same_weights_share_an_entry() -> Result<()> {
    let server = PreparedServer::new().await?;
    let model = server.model("q4k")?;
    let loads = ["a", "b"].map(|id| server.client.load(id).spec(model.clone()).wait());
    futures::future::try_join_all(loads).await?;
    info::cache_when(&server.client, |cache| cache.entries == 1).await?;
    for id in ["a", "b"] {
        server.client.unload(id).send().await?;
    }
    server.names_when(|_| true).await?;
    server.entry()?;
    assert!(server.turn(&model).await?.0.prepared);
    Ok(())
}
