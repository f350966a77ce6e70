//! Disconnects, refused tokens, retries.

use hangar_client::{
    Client, Error, WatchEvent,
    v1::{ErrorReason, LoadModelResponse, ModelState},
};
use tonic::{Code, Status};

use crate::script::{Script, load, refused, snapshot, transition};

/// What a watch gives until `last` transitions have come: "snapshot:m1,m2", "reset:…", "1", "lost".
async fn watched(client: &Client, last: u64) -> Vec<String> {
    let mut watch = client.watch().stream();
    let mut seen = Vec::new();
    while let Some(event) = watch.next().await {
        match event.unwrap() {
            WatchEvent::Snapshot { models, reset } => {
                let models: Vec<_> = models.into_iter().map(|model| model.model_id).collect();
                seen.push(format!(
                    "{}:{}",
                    if reset { "reset" } else { "snapshot" },
                    models.join(",")
                ));
            }
            WatchEvent::Transition { revision, .. } => {
                seen.push(revision.to_string());
                if revision == last {
                    break;
                }
            }
            WatchEvent::Disconnected { .. } => seen.push("lost".to_owned()),
            _ => {}
        }
    }
    seen
}

#[bounded::test]
async fn a_watch_goes_on_behind_its_last_event() {
    let script = Script::watches([
        vec![snapshot("t0", "a", false), Err(Status::unavailable("cut"))],
        vec![
            snapshot("t0", "a", false),
            snapshot("t0", "b", true),
            transition(1),
        ],
        vec![
            transition(2),
            Err(refused(Code::Unavailable, "SHUTTING_DOWN")),
        ],
        vec![transition(3)],
    ]);
    let (client, _tasks) = script.serve().await;
    assert_eq!(
        watched(&client, 3).await,
        ["lost", "snapshot:a,b", "1", "lost", "2", "lost", "3"]
    );
    assert_eq!(script.state().tokens, ["", "", "t1", "t2"]);
}

#[bounded::test]
async fn a_refused_token_leads_to_a_reset() {
    let script = Script::watches([
        vec![snapshot("t0", "a", true), transition(1)],
        vec![Err(refused(Code::InvalidArgument, "TOKEN_INVALID"))],
        vec![snapshot("t7", "b", true), transition(8)],
    ]);
    let (client, _tasks) = script.serve().await;
    assert_eq!(
        watched(&client, 8).await,
        ["snapshot:a", "1", "lost", "lost", "reset:b", "8"]
    );
    assert_eq!(script.state().tokens, ["", "t1", ""]);
}

#[bounded::test]
async fn a_hole_in_the_sequence_leads_to_a_reset() {
    let script = Script::watches([
        vec![snapshot("t0", "a", true), transition(1), transition(3)],
        vec![snapshot("t3", "a", true), transition(4)],
    ]);
    let (client, _tasks) = script.serve().await;
    assert_eq!(
        watched(&client, 4).await,
        ["snapshot:a", "1", "lost", "reset:a", "4"]
    );
}

#[bounded::test]
async fn a_watch_ends_where_going_on_is_hopeless() {
    let script = Script::watches([vec![Err(refused(Code::PermissionDenied, "ROLE_REQUIRED"))]]);
    let (client, _tasks) = script.serve().await;
    let mut watch = client.watch().stream();
    let error = watch.next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    assert!(watch.next().await.is_none());
}

#[bounded::test]
async fn a_load_is_repeated_under_the_same_request_id() {
    let script = Script::default();
    let ready = LoadModelResponse {
        loads: vec![load(ModelState::Ready)],
    };
    script.state().loads = [Err(Status::unavailable("a proxy")), Ok(ready)].into();
    let (client, _tasks) = script.serve().await;
    assert_eq!(client.load("m").demo().wait().await.unwrap().model_id, "m");
    let requests = script.state().load_requests.clone();
    assert_eq!(requests.len(), 2);
    assert!(!requests[0].request_id.is_empty() && requests[0].wait);
    assert_eq!(requests[0], requests[1]);
}

#[bounded::test]
async fn how_a_load_failed_is_not_repeated() {
    let script = Script::default();
    script.state().loads = [Err(refused(Code::Unavailable, "WORKER_DIED"))].into();
    let (client, _tasks) = script.serve().await;
    let error = client.load("m").wait().await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::WorkerDied));
    assert!(matches!(error, Error::Refused(_)));
}
