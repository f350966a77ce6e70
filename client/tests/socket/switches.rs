//! Switches: how one ended is told, whatever happens to the connection.

use std::time::Duration;

use hangar_client::{
    Client, Error, Switching,
    v1::{
        ErrorReason, GetInfoResponse, ModelState, SwitchInfo, SwitchModelResponse, SwitchOutcome,
        SwitchStrategy,
    },
};
use tokio::{task::JoinSet, time::timeout};
use tonic::{Code, Status};

use crate::script::{Answers, Asked, Script, changed, refused, snapshot, switch, switched};

/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) fn begun() -> Result<SwitchModelResponse, Status> {
    Ok(SwitchModelResponse {
        switch_id: "s1".to_owned(),
        strategy: SwitchStrategy::LoadFirst.into(),
        ..Default::default()
    })
}

pub(crate) fn info(switches: &[SwitchInfo]) -> Result<GetInfoResponse, Status> {
    Ok(GetInfoResponse {
        switches: switches.to_vec(),
        ..Default::default()
    })
}

fn cut<T>() -> Result<T, Status> {
    Err(Status::unavailable("cut"))
}

fn script(
    watches: impl IntoIterator<Item = Answers>,
    infos: impl IntoIterator<Item = Result<GetInfoResponse, Status>>,
) -> Script {
    let script = Script::watches(watches);
    script.state().switches = Asked::with([begun()]);
    script.state().infos = Asked::with(infos);
    script
}

async fn start(client: &Client) -> Switching {
    client.switch("chat", "m").start().await.unwrap()
}

async fn wait(script: &Script) -> Result<SwitchInfo, Error> {
    let (client, _tasks) = script.serve().await;
    let switching = start(&client).await;
    assert_eq!(
        (switching.id(), switching.strategy()),
        ("s1", SwitchStrategy::LoadFirst)
    );
    // Whoever waits may be another task.
    let mut tasks = JoinSet::new();
    tasks.spawn(switching.wait());
    let outcome = timeout(LIMIT, tasks.join_next()).await.unwrap();
    outcome.unwrap().unwrap()
}

#[bounded::test]
async fn the_outcome_arrives_over_a_reconnect() {
    let script = script(
        [
            vec![
                snapshot("t0", "m", true),
                switched(1, switch("s1", SwitchOutcome::Unspecified)),
                cut(),
            ],
            vec![
                switched(2, switch("other", SwitchOutcome::RolledBack)),
                switched(3, switch("s1", SwitchOutcome::Succeeded)),
            ],
        ],
        [info(&[])],
    );
    let switch = wait(&script).await.unwrap();
    assert_eq!(switch.outcome(), SwitchOutcome::Succeeded);
    let state = script.state();
    assert_eq!(state.tokens, ["", "t1"]);
    assert_eq!(state.infos.requests.len(), 1);
}

#[bounded::test]
async fn the_outcome_is_asked_for_after_a_reset() {
    let script = script(
        [
            vec![snapshot("t0", "m", true), cut()],
            vec![snapshot("x0", "m", true)],
        ],
        [
            info(&[switch("s1", SwitchOutcome::Unspecified)]),
            info(&[switch("s1", SwitchOutcome::Succeeded)]),
        ],
    );
    assert_eq!(wait(&script).await.unwrap().switch_id, "s1");
}

#[bounded::test]
async fn a_switch_that_is_over_before_the_watch_begins_has_its_outcome() {
    let failed = SwitchInfo {
        reason: "INSUFFICIENT_MEMORY".to_owned(),
        message: "it does not fit".to_owned(),
        ..switch("s1", SwitchOutcome::RolledBack)
    };
    let script = script([vec![snapshot("t0", "m", true)]], [info(&[failed])]);
    let error = wait(&script).await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::InsufficientMemory));
    let Error::Switch(failure) = error else {
        panic!("not the failure of a switch: {error}")
    };
    assert!(failure.old_serves());
    assert_eq!(failure.switch().from_model_id, "old");
}

#[bounded::test]
async fn a_question_that_failed_is_asked_again_with_the_next_event() {
    let gone = (0..5).map(|_| cut());
    let over = info(&[switch("s1", SwitchOutcome::Succeeded)]);
    let script = script(
        [vec![
            snapshot("t0", "m", true),
            changed(
                hangar_client::v1::ChangeKind::Transition,
                1,
                ModelState::Loading,
            ),
        ]],
        gone.chain([over]),
    );
    assert!(wait(&script).await.is_ok());
    assert_eq!(script.state().infos.requests.len(), 6);
}

#[bounded::test]
async fn an_outcome_that_nobody_remembers_is_not_made_up() {
    for switches in [&[][..], &[switch("s2", SwitchOutcome::Succeeded)]] {
        let script = script(
            [
                vec![snapshot("t0", "m", true), cut()],
                vec![snapshot("x0", "m", true)],
            ],
            [info(&[]), info(switches)],
        );
        let error = wait(&script).await.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
    }
}

#[bounded::test]
async fn the_new_model_is_followed() {
    let ready = |revision| {
        changed(
            hangar_client::v1::ChangeKind::Transition,
            revision,
            ModelState::Ready,
        )
    };
    let script = script(
        [vec![
            snapshot("t0", "old", true),
            changed(
                hangar_client::v1::ChangeKind::Progress,
                0,
                ModelState::Loading,
            ),
            ready(1),
            switched(2, switch("s1", SwitchOutcome::Succeeded)),
        ]],
        [info(&[switch("s1", SwitchOutcome::Unspecified)])],
    );
    let (client, _tasks) = script.serve().await;
    let mut states = Vec::new();
    let wait = client.switch("chat", "m").wait_with(|status| {
        assert_eq!(status.model_id, "m");
        states.push(status.state());
    });
    timeout(LIMIT, wait).await.unwrap().unwrap();
    assert_eq!(states, [ModelState::Loading, ModelState::Ready]);
}

#[bounded::test]
async fn a_switch_is_repeated_under_the_same_request_id() {
    let script = Script::default();
    script.state().switches = Asked::with([cut(), begun()]);
    let (client, _tasks) = script.serve().await;
    let switch = client
        .switch("chat", "m")
        .demo()
        .strategy(SwitchStrategy::UnloadFirst)
        .drain_timeout(Duration::from_secs(1));
    switch.start().await.unwrap();
    let requests = script.state().switches.requests.clone();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0], requests[1]);
    assert!(!requests[0].request_id.is_empty());
    assert_eq!(requests[0].strategy(), SwitchStrategy::UnloadFirst);
    assert_eq!(
        (requests[0].alias.as_str(), requests[0].model_id.as_str()),
        ("chat", "m")
    );
}

#[bounded::test]
async fn a_switch_that_cannot_begin_says_why() {
    let script = Script::default();
    script.state().switches = Asked::with([Err(refused(Code::Aborted, "SWITCH_IN_PROGRESS"))]);
    let (client, _tasks) = script.serve().await;
    let error = client.switch("chat", "m").wait().await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::SwitchInProgress));
    assert!(matches!(error, Error::Refused(_)));
}

#[bounded::test]
async fn waiting_ends_at_its_deadline() {
    let script = script([], []);
    let (client, _tasks) = script.serve().await;
    let switch = client
        .switch("chat", "m")
        .deadline(Duration::from_millis(50));
    let error = timeout(LIMIT, switch.wait()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error}");
}
