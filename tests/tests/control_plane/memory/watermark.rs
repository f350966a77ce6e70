//! The high watermark: who goes although everybody was let in by the rules.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    convert::to_proto_duration,
    v1::{
        ModelSpec,
        ModelState::{Draining, Loading, Ready, Unloaded},
        SuspendReason::Evicted,
    },
};
use hangar_tests::{
    scripted::{Gate, Script},
    server::{TestServer, spec},
};

use super::server::MemoryServer;

#[hangar_tests::test]
async fn above_the_high_watermark_the_least_recently_used_model_is_evicted() -> Result<()> {
    let server = MemoryServer::with(3.0, |options| {
        options.argument("--memory-high-watermark").argument("0.5")
    })
    .await?;
    let pinned = ModelSpec {
        pinned: true,
        ..server.spec()?
    };
    // One unit of three is below the mark, two are above it.
    server.client.load("pinned").spec(pinned).wait().await?;
    let mut transitions = server.follow("m").await?;
    server.client.load("m").spec(server.spec()?).wait().await?;
    let draining = transitions.until(Draining).await?;
    assert_eq!(draining.suspend_reason(), Evicted);
    let gone = transitions.until(Unloaded).await?;
    assert!(
        gone.message.contains("high watermark of 50 %"),
        "{}",
        gone.message
    );
    assert_eq!(server.ready().await?, ["pinned"]);
    Ok(())
}

/// Longer than the server takes from one look at the memory to the next.
const MORE_THAN_A_CHECK: Duration = Duration::from_millis(2500);

#[hangar_tests::test]
async fn memory_that_is_only_reserved_evicts_nobody() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .argument("--memory-limit")
        .argument("1GiB")
        .start()
        .await?;
    server.ready().await?;
    // With its headroom nearly all that there is, and it takes next to nothing.
    let modest = Script {
        need_host_bytes: 840 << 20,
        ..Script::gated()
    };
    let directory = server.fixtures.scripted("modest", &modest)?;
    let _gate = Gate::new(&directory, "load")?;
    let mut loading = server.follow("modest").await?;
    server
        .client
        .load("modest")
        .spec(spec(&directory))
        .send()
        .await?;
    loading.until(Loading).await?;
    // A clock: when this one has gone, the server has looked.
    let clock = server.fixtures.scripted("clock", &Script::default())?;
    let clock = ModelSpec {
        idle_timeout: Some(to_proto_duration(MORE_THAN_A_CHECK)),
        pinned: true,
        ..spec(&clock)
    };
    let mut ticks = server.follow("clock").await?;
    server.client.load("clock").spec(clock).wait().await?;
    ticks.until(Unloaded).await?;
    assert_eq!(
        server.info().await?.status.context("a status")?.state(),
        Ready
    );
    Ok(())
}
