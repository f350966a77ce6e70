//! Sessions: kept alive, expired, closed, dropped.

use std::{sync::Arc, time::Duration};

use hangar_client::{
    Client, Session,
    convert::to_proto_duration,
    v1::{
        CloseSessionResponse, CreateSessionResponse, ErrorReason, KeepAliveResponse,
        LoadModelResponse, ModelState, ModelUnload, Session as Record, UnloadModelResponse,
    },
};
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tonic::{Code, Status};

use crate::script::{Asked, Script, load, refused};

/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(120);

fn record(ttl: Duration) -> Record {
    Record {
        session_id: "s1".to_owned(),
        holder: "session/h1".to_owned(),
        ttl: Some(to_proto_duration(ttl)),
        ..Default::default()
    }
}

fn alive(ttl: Duration) -> Result<KeepAliveResponse, Status> {
    let session = Some(record(ttl));
    Ok(KeepAliveResponse { session })
}

/// A session of a server that gives it `ttl`, whatever was asked for.
async fn open(script: &Script, client: &Client, ttl: Duration) -> Session {
    let session = Some(record(ttl));
    script.state().sessions.creates = Asked::with([Ok(CreateSessionResponse { session })]);
    client.open_session(LIMIT).await.unwrap()
}

/// Waits until so many keep-alives came.
async fn comes(count: &mut watch::Receiver<usize>, keep_alives: usize) {
    let came = count.wait_for(|count| *count >= keep_alives);
    timeout(LIMIT, came).await.unwrap().unwrap();
}

#[bounded::test]
async fn a_session_keeps_itself_alive_through_failures() {
    let ttl = Duration::from_secs(6);
    let script = Script::default();
    let gone = Err(Status::unavailable("a proxy"));
    let fault = Err(refused(Code::Internal, "INTERNAL"));
    let alives = (0..99).map(|_| alive(ttl));
    script.state().sessions.keep_alives = Asked::with([gone, fault].into_iter().chain(alives));
    let mut count = script.state().sessions.keep_alives.count();
    let (client, _tasks) = script.serve().await;
    let session = open(&script, &client, ttl).await;
    assert_eq!((session.id(), session.ttl()), ("s1", ttl));
    assert_eq!(session.holder(), "session/h1");
    assert!(!format!("{session:?}").contains("s1"));
    comes(&mut count, 4).await;
    assert!(!session.is_expired());
    let requests = script.state().sessions.keep_alives.requests.clone();
    assert!(requests.iter().all(|request| request.session_id == "s1"));
    let asked = script.state().sessions.creates.requests[0].ttl;
    assert_eq!(asked, Some(to_proto_duration(LIMIT)));
}

#[bounded::test]
async fn a_session_that_the_server_does_not_know_any_more_has_expired() {
    let script = Script::default();
    let unknown = Err(refused(Code::NotFound, "SESSION_NOT_FOUND"));
    script.state().sessions.keep_alives = Asked::with([unknown]);
    let (client, _tasks) = script.serve().await;
    let session = open(&script, &client, Duration::from_secs(1)).await;
    let session = Arc::new(session);
    let mut tasks = JoinSet::new();
    let waiting = session.clone();
    tasks.spawn(async move { waiting.expired().await });
    let error = timeout(LIMIT, tasks.join_next()).await.unwrap();
    let error = error.unwrap().unwrap();
    assert_eq!(error.reason(), Some(ErrorReason::SessionNotFound));
    assert!(session.is_expired());
    assert_eq!(script.state().sessions.keep_alives.requests.len(), 1);
    // It stays expired for whoever asks later.
    let error = timeout(LIMIT, session.expired()).await.unwrap();
    assert_eq!(error.reason(), Some(ErrorReason::SessionNotFound));
}

#[bounded::test]
async fn a_session_whose_server_cannot_be_reached_for_its_whole_time_has_expired() {
    let script = Script::default();
    let gone = || Err(Status::unavailable("a proxy"));
    script.state().sessions.keep_alives = Asked::with((0..999).map(|_| gone()));
    let (client, _tasks) = script.serve().await;
    let session = open(&script, &client, Duration::from_secs(2)).await;
    let error = timeout(LIMIT, session.expired()).await.unwrap();
    assert!(
        matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded),
        "{error}"
    );
    let tries = script.state().sessions.keep_alives.requests.len();
    assert!(tries > 1, "{tries} tries");
}

#[bounded::test]
async fn a_session_that_is_dropped_is_not_kept_alive() {
    let ttl = Duration::from_millis(600);
    let script = Script::default();
    script.state().sessions.keep_alives = Asked::with((0..99).map(|_| alive(ttl)));
    let mut count = script.state().sessions.keep_alives.count();
    let (client, _tasks) = script.serve().await;
    let session = open(&script, &client, ttl).await;
    comes(&mut count, 1).await;
    drop(session);
    // One may have been on its way.
    let seen = *count.borrow();
    let more = timeout(ttl, count.wait_for(|count| *count > seen + 1)).await;
    assert!(more.is_err(), "it was kept alive");
    assert!(script.state().sessions.closes.requests.is_empty());
}

#[bounded::test]
async fn closing_lists_what_is_unloaded_and_ends_the_keep_alive() {
    let script = Script::default();
    let closed = CloseSessionResponse {
        unloading_model_ids: vec!["m".to_owned()],
    };
    script.state().sessions.closes = Asked::with([Err(Status::unavailable("cut")), Ok(closed)]);
    let (client, _tasks) = script.serve().await;
    let session = open(&script, &client, LIMIT).await;
    assert_eq!(session.close().await.unwrap(), ["m"]);
    let requests = script.state().sessions.closes.requests.clone();
    assert!(requests.len() == 2 && requests.iter().all(|request| request.session_id == "s1"));
}

#[bounded::test]
async fn a_session_that_is_gone_is_closed() {
    let script = Script::default();
    let unknown = || Err(refused(Code::NotFound, "SESSION_NOT_FOUND"));
    script.state().sessions.closes = Asked::with([unknown(), unknown()]);
    let (client, _tasks) = script.serve().await;
    let session = open(&script, &client, LIMIT).await;
    assert_eq!(session.close().await.unwrap(), [""; 0]);
    // Whoever has only its id is told.
    let error = client.session("s1").close().await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::SessionNotFound));
}

#[bounded::test]
async fn loads_and_unloads_name_their_session() {
    let script = Script::default();
    let loaded = LoadModelResponse {
        loads: vec![load(ModelState::Ready)],
    };
    script.state().loads = [Ok(loaded)].into();
    script.state().unload = Some(UnloadModelResponse {
        unloads: vec![ModelUnload::default()],
        ..Default::default()
    });
    let (client, _tasks) = script.serve().await;
    let session = open(&script, &client, LIMIT).await;
    client.load("m").session(&session).wait().await.unwrap();
    client
        .unload("m")
        .session(session.id())
        .send()
        .await
        .unwrap();
    assert_eq!(script.state().load_requests[0].session_id, "s1");
    assert_eq!(script.state().unload_requests[0].session_id, "s1");
}
