//! A session's id is known to whoever opened it, and to nobody else.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    Error,
    v1::{ErrorReason, InfoView, ModelState, Session},
};
use hangar_tests::{
    http,
    refusals::{refusal, wrong_fields},
    scripted::Script,
    server::TestServer,
    stubs::{load_for, unload},
};
use tonic::Code;

use super::{holder, load};

/// A session that others see by this name.
async fn named(server: &TestServer, name: &str, ttl: Duration) -> Result<Session, Error> {
    server.client.create_session_as(name, ttl).await
}

/// What a server shows after the event to everybody who asks: metrics, its log and its files.
async fn shown(server: &TestServer) -> Result<String> {
    let mut shown = http::get(server.ops_listen(), "/metrics").await?.body;
    shown.push_str(&server.log()?);
    for entry in std::fs::read_dir(server.data_dir())? {
        let path = entry?.path();
        if path.is_file() {
            shown.push_str(&String::from_utf8_lossy(&std::fs::read(path)?));
        }
    }
    Ok(shown)
}

#[hangar_tests::test]
async fn others_see_a_sessions_name_and_never_its_id() -> Result<()> {
    let options = TestServer::scripted().argument("--log").argument("trace");
    let server = options.start().await?;
    let mut watch = server.client.watch().stream();
    let mut seen = format!("{:?}", watch.next().await.context("a snapshot")??);
    let ttl = Duration::from_secs(60);
    let held = named(&server, "nightly", ttl).await?;
    let other = named(&server, "", ttl).await?;
    let (_, spec) = server.script("m", &Script::default())?;
    load(&server, &held, "m", spec.clone()).await?;
    load(&server, &other, "m", spec).await?;

    let refused = server.stubs.unload(unload("m")).await;
    let refused = refusal(refused, Code::FailedPrecondition, ErrorReason::ModelHeld);
    let info = server.client.info().view(InfoView::Full).metrics();
    let reported = format!("{refused:?} {refused} {:?}", info.send().await?);
    for session in [&held, &other] {
        assert!(reported.contains(&holder(session)), "{reported}");
    }
    assert!(held.holder.starts_with("session/nightly-"), "{held:?}");
    seen.push_str(&reported);

    server.stubs.close(&held.session_id).await?;
    let closed = server.stubs.session(&held.session_id).await;
    let closed = refusal(closed, Code::NotFound, ErrorReason::SessionNotFound);
    seen.push_str(&format!("{closed:?} {closed}"));
    server.stubs.close(&other.session_id).await?;
    loop {
        let event = format!("{:?}", watch.next().await.context("an event")??);
        seen.push_str(&event);
        if event.contains("Unloading") {
            break;
        }
    }
    seen.push_str(&shown(&server).await?);
    for session in [held, other] {
        assert!(!seen.contains(&session.session_id), "{seen}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn neither_a_sessions_name_nor_a_part_of_it_opens_anything() -> Result<()> {
    let server = TestServer::scripted().start().await?;
    let held = named(&server, "nightly", Duration::from_secs(60)).await?;
    let (_, spec) = server.script("m", &Script::default())?;
    load(&server, &held, "m", spec).await?;
    let other = server.llama_spec()?;
    for key in [
        held.holder.as_str(),
        held.holder.trim_start_matches("session/"),
    ] {
        let guess = Session {
            session_id: key.to_owned(),
            ..Session::default()
        };
        let refused = server.stubs.close(key).await;
        refusal(refused, Code::NotFound, ErrorReason::SessionNotFound);
        let load = load_for(&guess, "m", other.clone());
        let refused = server.stubs.load(load).await;
        refusal(refused, Code::NotFound, ErrorReason::SessionNotFound);
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_session_that_lapses_is_logged_by_its_name() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let session = named(&server, "short", Duration::from_secs(1)).await?;
    let (_, spec) = server.script("m", &Script::default())?;
    let mut watch = server.watch().await?;
    load(&server, &session, "m", spec).await?;
    watch.until("m", ModelState::Unloaded).await?;
    let log = server.log()?;
    let name = session.holder.trim_start_matches("session/");
    assert!(log.contains(name) && !log.contains(&session.session_id));
    Ok(())
}

#[hangar_tests::test]
async fn a_display_name_is_short_and_plain() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let long = "x".repeat(64);
    for wrong in [long.as_str(), "a,b", "a b", "ä", "a/b", "\n"] {
        let refused = named(&server, wrong, Duration::from_secs(60)).await;
        assert_eq!(wrong_fields(refused), ["display_name"], "{wrong:?}");
    }
    let longest = "x".repeat(63);
    let session = named(&server, &longest, Duration::from_secs(60)).await?;
    assert!(session.holder.contains(&longest));
    Ok(())
}
