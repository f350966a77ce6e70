//! Workers that inspect files ahead of a reload and do not go when they are killed.

use std::time::Duration;

use anyhow::Result;
use hangar_client::v1::ErrorReason;
use hangar_tests::{
    failpoints::{Blocked, Failpoints},
    refusals::refusal,
    scripted::{ReadyKind, Script},
    server::{DEADLINE, TestServer},
};
use tonic::Code;

/// Inspections at the same time.
const AT_ONCE: usize = 2;

/// A server whose model `m` serves, and has new files that are unusable; what inspects them is never seen to have ended
/// for as long as the other value exists.
async fn with_inspections_that_stay(failpoints: &Failpoints) -> Result<(TestServer, Blocked)> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .failpoints(failpoints)
        .time("--kill-timeout", Duration::from_millis(100))
        .start()
        .await?;
    server.ready().await?;
    let stay = failpoints.hold("worker-reaped.m")?;
    let unusable = Script {
        ready: ReadyKind::Failure {
            reason: "MODEL_UNUSABLE".into(),
            message: "No model is in it.".into(),
        },
        ..Script::default()
    };
    unusable.write(&server.directory)?;
    Ok((server, stay))
}

async fn refused_as_unusable(server: &TestServer) {
    let refused = server.client.load("m").force_reload().wait().await;
    refusal(
        refused,
        Code::FailedPrecondition,
        ErrorReason::ModelUnusable,
    );
}

#[hangar_tests::test]
async fn no_more_inspect_than_may_while_workers_cannot_be_killed() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let (server, stay) = with_inspections_that_stay(&failpoints).await?;
    for _ in 0..AT_ONCE {
        refused_as_unusable(&server).await;
    }
    let third = server.client.load("m").force_reload();
    let third = third.timeout(Duration::from_secs(1)).wait().await;
    let third = refusal(third, Code::DeadlineExceeded, ErrorReason::LoadTimeout);
    assert!(third.message().contains("serves on"), "{third}");
    server.client.generate("m").prompt("x").text().await?;
    drop(stay);
    Script::default().write(&server.directory)?;
    server.client.load("m").force_reload().wait().await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_panic_of_what_waits_for_an_inspection_to_go_stops_the_server() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let (server, _stay) = with_inspections_that_stay(&failpoints).await?;
    failpoints.panic("inspection-end")?;
    refused_as_unusable(&server).await;
    let (status, log) = server.ended_with_log(DEADLINE).await?;
    assert_eq!(status.code(), Some(70), "{log}");
    Ok(())
}
