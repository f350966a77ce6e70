//! How long sessions live.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use hangar_client::{
    convert::{to_duration, to_system_time},
    v1::{ErrorReason, Session},
};
use hangar_tests::{
    refusals::{refusal, wrong_fields},
    server::TestServer,
    time_enough::with_time_enough,
};
use tokio::time::interval;
use tonic::Code;

use super::session;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Time from the opening of a session to its end, as it stands.
fn life(session: &Session) -> Result<Duration> {
    let time = |time: Option<prost_types::Timestamp>| {
        time.as_ref().and_then(to_system_time).context("a time")
    };
    Ok(time(session.expire_time)?.duration_since(time(session.create_time)?)?)
}

#[hangar_tests::test]
async fn the_ttl_of_a_session_is_between_a_second_and_a_day() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let wrong = [
        Duration::ZERO,
        Duration::from_millis(999),
        DAY + Duration::from_nanos(1),
    ];
    for ttl in wrong {
        let refused = server.stubs.create_session(Some(ttl)).await;
        assert_eq!(wrong_fields(refused), ["ttl"], "{ttl:?}");
    }
    for ttl in [Duration::from_secs(1), DAY] {
        let session = server.stubs.create_session(Some(ttl)).await?;
        assert_eq!(session.ttl.as_ref().map(to_duration), Some(ttl));
        let off = life(&session)?.abs_diff(ttl);
        assert!(off < Duration::from_secs(1), "{session:?}");
    }
    let session = session(&server).await?;
    let ttl = session.ttl.as_ref().map(to_duration);
    assert_eq!(ttl, Some(Duration::from_secs(60)));
    Ok(())
}

#[hangar_tests::test]
async fn a_session_is_found_until_it_is_closed() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let before = SystemTime::now();
    let created = session(&server).await?;
    let created_at = created.create_time.as_ref().and_then(to_system_time);
    assert!(created_at.context("a time")? >= before - Duration::from_secs(1));
    let other = session(&server).await?;
    assert_ne!(created.session_id, other.session_id);
    let found = server.stubs.session(&created.session_id).await?;
    assert_eq!(found.session_id, created.session_id);
    assert_eq!(found.create_time, created.create_time);
    assert!(found.model_ids.is_empty());
    assert!(server.stubs.close(&created.session_id).await?.is_empty());
    for unknown in [created.session_id.as_str(), "no-such-session"] {
        let answers = [
            server.stubs.session(unknown).await.map(drop),
            server.stubs.keep_alive(unknown).await.map(drop),
            server.stubs.close(unknown).await.map(drop),
        ];
        for answer in answers {
            let refused = refusal(answer, Code::NotFound, ErrorReason::SessionNotFound);
            // Another server may know it.
            assert!(!format!("{refused:?}").contains(unknown));
        }
    }
    server.stubs.session(&other.session_id).await?;
    Ok(())
}

#[hangar_tests::test]
async fn an_empty_session_id_is_refused() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let answers = [
        server.stubs.session("").await.map(drop),
        server.stubs.keep_alive("").await.map(drop),
        server.stubs.close("").await.map(drop),
    ];
    for answer in answers {
        assert_eq!(wrong_fields(answer), ["session_id"]);
    }
    Ok(())
}

#[hangar_tests::test]
async fn keep_alive_extends_a_session_and_reading_does_not() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    with_time_enough(Duration::from_secs(2), async |ttl| {
        let kept = server.stubs.create_session(Some(ttl)).await?.session_id;
        let left = server.stubs.create_session(Some(ttl)).await?;
        let mut ticks = interval(Duration::from_millis(50));
        let mut life_of_kept = Duration::ZERO;
        let gone = loop {
            ticks.tick().await;
            let Ok(session) = server.stubs.keep_alive(&kept).await else {
                return Ok(None);
            };
            life_of_kept = life(&session)?.max(life_of_kept);
            match server.stubs.session(&left.session_id).await {
                Ok(found) => assert!(life(&found)? < ttl * 3 / 2, "{found:?}"),
                gone => break gone,
            }
        };
        refusal(gone, Code::NotFound, ErrorReason::SessionNotFound);
        assert!(life_of_kept > ttl * 3 / 2, "{life_of_kept:?}");
        Ok(server.stubs.session(&kept).await.ok().map(drop))
    })
    .await
}
