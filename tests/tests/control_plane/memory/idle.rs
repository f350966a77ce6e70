//! `idle_timeout`: a model that nobody uses goes by itself.

use std::time::{Duration, Instant};

use anyhow::Result;
use hangar_client::{
    convert::to_proto_duration,
    v1::{
        ModelSpec,
        ModelState::{Draining, Ready, Unloaded},
        SuspendReason::Idle,
    },
};
use hangar_tests::time_enough::with_time_enough;

use super::server::MemoryServer;

#[hangar_tests::test]
async fn a_model_is_unloaded_after_its_idle_timeout() -> Result<()> {
    with_time_enough(Duration::from_millis(1500), idle).await
}

/// Nothing when a model went before it could be used.
async fn idle(limit: Duration) -> Result<Option<()>> {
    let server = MemoryServer::for_units(9.0).await?;
    let client = &server.client;
    let lazy = |required, pinned| -> Result<ModelSpec> {
        Ok(ModelSpec {
            idle_timeout: Some(to_proto_duration(limit)),
            required,
            pinned,
            ..server.spec()?
        })
    };
    let session = client.open_session(Duration::from_secs(60)).await?;
    let required = client.load("required").spec(lazy(true, false)?);
    required.wait().await?;
    let held = client.load("held").spec(lazy(false, false)?);
    held.session(&session).wait().await?;
    let mut pinned = server.follow("pinned").await?;
    let load = client.load("pinned").spec(lazy(false, true)?);
    load.wait().await?;
    let mut used = server.follow("used").await?;
    let load = client.load("used").spec(lazy(false, false)?);
    load.wait().await?;
    let last = Instant::now();
    if server.touch("used").await.is_err() {
        return Ok(None);
    }
    let draining = used.until(Draining).await?;
    assert!(last.elapsed() >= limit, "after {:?}", last.elapsed());
    assert_eq!(draining.suspend_reason(), Idle);
    let gone = used.until(Unloaded).await?;
    assert!(gone.message.contains("idle_timeout") && gone.reason.is_empty());
    // To be pinned protects from others, not from the model's own limit.
    pinned.until(Unloaded).await?;
    assert_eq!(server.ready().await?, ["held", "required"]);
    client.load("used").wait().await?;
    used.until(Ready).await?;
    Ok(Some(()))
}
