//! The first words of a worker, and what else may come in their place.

use std::time::Duration;

use anyhow::Result;
use hangar_client::v1::{ErrorReason, ModelState::Failed};
use hangar_tests::{
    processes,
    refusals::refusal,
    scripted::{Fault, ReadyKind, Script},
    server::{DEADLINE, NEVER, TestServer},
};
use hangar_worker_protocol::PROTOCOL_VERSION;
use tokio::time::timeout;
use tonic::Code;

/// Loads with these first words, for which the worker has time enough, and gives the message that the load failed
/// with.
async fn first_words(ready: ReadyKind, code: Code, reason: ErrorReason) -> Result<String> {
    first_words_within(NEVER, ready, code, reason).await
}

/// As [`first_words`], with so much time for them.
async fn first_words_within(
    limit: Duration,
    ready: ReadyKind,
    code: Code,
    reason: ErrorReason,
) -> Result<String> {
    let script = Script {
        ready,
        ..Script::default()
    };
    let server = TestServer::scripted()
        .script(&script)
        .time("--ready-timeout", limit)
        .start()
        .await?;
    let mut transitions = server.follow("m").await?;
    let load = timeout(DEADLINE, server.load_m().wait()).await?;
    let refusal = refusal(load, code, reason);
    let failed = transitions.until(Failed).await?;
    assert!(refusal.message().starts_with(&failed.message), "{refusal}");
    assert!(processes::children(server.pid())?.is_empty());
    Ok(failed.message)
}

#[hangar_tests::test]
async fn a_worker_that_sends_no_handshake_is_killed_in_time() -> Result<()> {
    for ready in [ReadyKind::Never, ReadyKind::Half] {
        let (limit, stalled) = (Duration::from_secs(1), ErrorReason::LoadStalled);
        let message = first_words_within(limit, ready, Code::DeadlineExceeded, stalled).await?;
        assert!(message.contains("1.0 s"), "{message}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_malformed_handshake_is_refused() -> Result<()> {
    for ready in [ReadyKind::Garbage, ReadyKind::Huge] {
        let message = first_words(ready, Code::Unavailable, ErrorReason::WorkerDied).await?;
        assert!(message.contains("make no sense"), "{message}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn another_protocol_version_is_refused() -> Result<()> {
    let died = ErrorReason::WorkerDied;
    let message = first_words(ReadyKind::WrongVersion, Code::Unavailable, died).await?;
    for version in [PROTOCOL_VERSION, PROTOCOL_VERSION + 1] {
        assert!(message.contains(&format!("version {version}")), "{message}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_worker_that_ends_or_closes_its_output_has_failed() -> Result<()> {
    for ready in [
        ReadyKind::Closed,
        ReadyKind::Die(Fault::Abort),
        ReadyKind::Die(Fault::Exit(0)),
    ] {
        first_words(ready, Code::Unavailable, ErrorReason::WorkerDied).await?;
    }
    Ok(())
}

#[hangar_tests::test]
async fn what_is_wrong_with_the_files_is_reported_in_the_workers_words() -> Result<()> {
    let ready = ReadyKind::Failure {
        reason: "MODEL_UNUSABLE".into(),
        message: "There are no weights in that directory. Copy them there.".into(),
    };
    let unusable = ErrorReason::ModelUnusable;
    let message = first_words(ready, Code::FailedPrecondition, unusable).await?;
    assert_eq!(
        message,
        "There are no weights in that directory. Copy them there."
    );
    Ok(())
}
