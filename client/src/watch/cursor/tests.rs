//! The cursor against a model of the server's side of the watch, with disconnects anywhere.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::v1::{ModelRemoved, ModelStatus, WatchHeartbeat};

/// What happened on the server, in order. Changes take a revision each, from 1.
#[derive(Clone, Copy, Debug)]
enum Fact {
    Transition(u8),
    Removed(u8),
    Progress(u8),
    Heartbeat,
}

/// A connection that the client makes: how much happened on the server before it breaks, and after
/// how many responses it does.
#[derive(Clone, Copy, Debug)]
struct Connection {
    happens: usize,
    responses: usize,
    restart: bool,
}

/// The server's side: a log, of which it keeps the last changes for resuming.
struct Server {
    facts: Vec<Fact>,
    /// Number of `facts` that have happened.
    now: usize,
    ring: usize,
    part: usize,
    epoch: u64,
}

/// What a watcher knows of the models: model to generation, where the generation is the revision.
type Known = BTreeMap<String, u64>;

fn status(model: u8, generation: u64) -> ModelStatus {
    ModelStatus {
        model_id: format!("m{model}"),
        generation,
        ..Default::default()
    }
}

fn changed(kind: ChangeKind, revision: u64, status: ModelStatus) -> Event {
    Event::Changed(ModelChanged {
        revision,
        kind: kind.into(),
        status: Some(status),
        ..Default::default()
    })
}

impl Server {
    /// The events that happened, each with the revision that holds after it.
    fn log(&self) -> Vec<(u64, Event)> {
        let mut revision = 0;
        let mut log = Vec::new();
        for fact in &self.facts[..self.now] {
            if matches!(fact, Fact::Transition(_) | Fact::Removed(_)) {
                revision += 1;
            }
            log.push((
                revision,
                match *fact {
                    Fact::Transition(model) => {
                        changed(ChangeKind::Transition, revision, status(model, revision))
                    }
                    Fact::Removed(model) => Event::Removed(ModelRemoved {
                        model_id: format!("m{model}"),
                        revision,
                    }),
                    Fact::Progress(model) => {
                        changed(ChangeKind::Progress, revision, status(model, revision))
                    }
                    Fact::Heartbeat => Event::Heartbeat(WatchHeartbeat::default()),
                },
            ));
        }
        log
    }

    fn known(&self) -> Known {
        let mut known = Known::new();
        for (_, event) in self.log() {
            match event {
                Event::Changed(changed) if changed.kind() == ChangeKind::Transition => {
                    let status = changed.status.unwrap();
                    known.insert(status.model_id, status.generation);
                }
                Event::Removed(removed) => drop(known.remove(&removed.model_id)),
                _ => {}
            }
        }
        known
    }

    fn token(&self, revision: u64) -> String {
        format!("{}:{revision}", self.epoch)
    }

    fn revision(&self) -> u64 {
        self.log().last().map_or(0, |(revision, _)| *revision)
    }

    /// What a connection with `token` gets for what happened until now.
    fn answers(&self, token: &str) -> Vec<WatchStatusResponse> {
        let response = |revision, event| WatchStatusResponse {
            resume_token: self.token(revision),
            event: Some(event),
        };
        let resumed = token
            .split_once(':')
            .filter(|(epoch, _)| *epoch == self.epoch.to_string());
        let resumed = resumed.and_then(|(_, revision)| revision.parse::<u64>().ok());
        let oldest = self.revision().saturating_sub(self.ring as u64);
        if let Some(from) = resumed.filter(|revision| *revision >= oldest) {
            let later = self
                .log()
                .into_iter()
                .filter(|(revision, _)| *revision > from);
            return later
                .map(|(revision, event)| response(revision, event))
                .collect();
        }
        let models: Vec<_> = self.known().into_iter().collect();
        let mut parts: Vec<_> = models.chunks(self.part).map(<[_]>::to_vec).collect();
        parts.push(Vec::new());
        let last = parts.len() - 1;
        let part = |(index, models): (usize, Vec<(String, u64)>)| {
            let models = models
                .into_iter()
                .map(|(model_id, generation)| ModelStatus {
                    model_id,
                    generation,
                    ..Default::default()
                });
            let reset = !token.is_empty();
            let snapshot = StatusSnapshot {
                models: models.collect(),
                reset,
                complete: index == last,
            };
            response(self.revision(), Event::Snapshot(snapshot))
        };
        parts.into_iter().enumerate().map(part).collect()
    }
}

/// Runs a watch over `connections` and then one that nothing disturbs. Returns what was handed out.
fn run(server: &mut Server, cursor: &mut Cursor, connections: &[Connection]) -> Vec<WatchEvent> {
    let mut handed_out = Vec::new();
    let undisturbed = Connection {
        happens: usize::MAX,
        responses: usize::MAX,
        restart: false,
    };
    for connection in connections.iter().chain([&undisturbed]) {
        server.now = server
            .now
            .saturating_add(connection.happens)
            .min(server.facts.len());
        server.epoch += u64::from(connection.restart);
        for response in server
            .answers(cursor.token())
            .into_iter()
            .take(connection.responses)
        {
            match cursor.accept(response) {
                Ok(Some(event)) => handed_out.push(event),
                Ok(None) => {}
                Err(Hole(why)) => panic!("lost: {why}"),
            }
        }
        cursor.disconnected();
    }
    handed_out
}

/// Revisions of the changes among the events.
fn revisions(events: &[WatchEvent]) -> Vec<u64> {
    let revision = |event: &WatchEvent| match event {
        WatchEvent::Transition { revision, .. } | WatchEvent::Removed { revision, .. } => {
            Some(*revision)
        }
        _ => None,
    };
    events.iter().filter_map(revision).collect()
}

fn facts() -> impl Strategy<Value = Vec<Fact>> {
    let fact = prop_oneof![
        5 => (0..6_u8).prop_map(Fact::Transition),
        1 => (0..6_u8).prop_map(Fact::Removed),
        3 => (0..6_u8).prop_map(Fact::Progress),
        1 => Just(Fact::Heartbeat),
    ];
    prop::collection::vec(fact, 0..60)
}

fn connections(restarts: bool) -> impl Strategy<Value = Vec<Connection>> {
    let restart = if restarts {
        prop::bool::weighted(0.1).boxed()
    } else {
        Just(false).boxed()
    };
    let connection =
        (0..12_usize, 0..10_usize, restart).prop_map(|(happens, responses, restart)| Connection {
            happens,
            responses,
            restart,
        });
    prop::collection::vec(connection, 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Put together, the changes are those of an undisturbed watcher, whatever the disconnects.
    #[bounded::test]
    fn nothing_is_missed_or_repeated(facts in facts(), connections in connections(false), part in 1..4_usize) {
        let mut server = Server { facts, now: 0, ring: usize::MAX, part, epoch: 1 };
        let mut cursor = Cursor::new(String::new(), false);
        let events = run(&mut server, &mut cursor, &connections);
        let seen = revisions(&events);
        let Some(WatchEvent::Snapshot { models, reset: false }) = events.first() else {
            return Err(TestCaseError::fail("no snapshot came first"));
        };
        let base = server.revision() - seen.len() as u64;
        prop_assert_eq!(seen, (base + 1..=server.revision()).collect::<Vec<_>>());
        prop_assert!(models.iter().all(|model| model.generation <= base));
        let snapshots = events.iter().filter(|event| matches!(event, WatchEvent::Snapshot { .. })).count();
        prop_assert_eq!(snapshots, 1);
    }

    /// With a short ring and restarts of the server, a watcher that honours resets ends up with the
    /// truth, and between resets no revision is missing.
    #[bounded::test]
    fn a_gap_is_reported(
        facts in facts(),
        connections in connections(true),
        part in 1..4_usize,
        ring in 0..8_usize,
    ) {
        let mut server = Server { facts, now: 0, ring, part, epoch: 1 };
        let mut cursor = Cursor::new(String::new(), false);
        let events = run(&mut server, &mut cursor, &connections);
        let mut known = Known::new();
        let mut last = None;
        for (index, event) in events.into_iter().enumerate() {
            match event {
                WatchEvent::Snapshot { models, reset } => {
                    prop_assert_eq!(reset, index != 0);
                    known = models.into_iter().map(|model| (model.model_id, model.generation)).collect();
                    last = None;
                }
                WatchEvent::Transition { revision, status } => {
                    prop_assert!(last.is_none_or(|last| revision == last + 1));
                    last = Some(revision);
                    known.insert(status.model_id, status.generation);
                }
                WatchEvent::Removed { revision, model_id } => {
                    prop_assert!(last.is_none_or(|last| revision == last + 1));
                    last = Some(revision);
                    known.remove(&model_id);
                }
                _ => {}
            }
        }
        prop_assert_eq!(known, server.known());
    }
}

fn response(token: &str, event: Event) -> WatchStatusResponse {
    WatchStatusResponse {
        resume_token: token.to_owned(),
        event: Some(event),
    }
}

fn complete() -> Event {
    Event::Snapshot(StatusSnapshot {
        complete: true,
        ..Default::default()
    })
}

fn transition(revision: u64) -> Event {
    changed(ChangeKind::Transition, revision, status(0, revision))
}

#[bounded::test]
fn a_gap_is_a_loss_and_the_next_snapshot_says_so() {
    let mut cursor = Cursor::new(String::new(), false);
    cursor.accept(response("a", complete())).unwrap();
    cursor.accept(response("b", transition(4))).unwrap();
    assert!(matches!(
        cursor.accept(response("c", transition(6))),
        Err(Hole(_))
    ));
    assert_eq!(cursor.token(), "");
    let step = cursor.accept(response("d", complete()));
    assert!(matches!(
        step,
        Ok(Some(WatchEvent::Snapshot { reset: true, .. }))
    ));
}

#[bounded::test]
fn a_filtered_watch_has_gaps() {
    let mut cursor = Cursor::new(String::new(), true);
    cursor.accept(response("a", complete())).unwrap();
    for revision in [2, 7, 9] {
        assert!(matches!(
            cursor.accept(response("b", transition(revision))),
            Ok(Some(_))
        ));
    }
}

#[bounded::test]
fn a_repeated_change_is_handed_out_once() {
    let mut cursor = Cursor::new("a".to_owned(), false);
    assert!(matches!(
        cursor.accept(response("b", transition(2))),
        Ok(Some(_))
    ));
    assert!(matches!(
        cursor.accept(response("b", transition(2))),
        Ok(None)
    ));
}

#[bounded::test]
fn late_progress_does_not_move_the_token_back() {
    let mut cursor = Cursor::new("a".to_owned(), false);
    cursor.accept(response("t6", transition(6))).unwrap();
    let late = changed(ChangeKind::Progress, 5, status(1, 1));
    assert!(matches!(cursor.accept(response("t5", late)), Ok(Some(_))));
    assert_eq!(cursor.token(), "t6");
}

#[bounded::test]
fn a_partial_snapshot_moves_no_token() {
    let mut cursor = Cursor::new("a".to_owned(), false);
    let part = StatusSnapshot {
        reset: true,
        ..Default::default()
    };
    assert!(matches!(
        cursor.accept(response("b", Event::Snapshot(part))),
        Ok(None)
    ));
    cursor
        .accept(response("c", Event::Heartbeat(WatchHeartbeat::default())))
        .unwrap();
    assert_eq!(cursor.token(), "a");
    assert!(matches!(
        cursor.accept(response("d", transition(1))),
        Err(Hole(_))
    ));
}

#[bounded::test]
fn an_event_of_the_future_is_passed_over() {
    let mut cursor = Cursor::new("a".to_owned(), false);
    let unknown = WatchStatusResponse {
        resume_token: "b".to_owned(),
        event: None,
    };
    assert!(matches!(cursor.accept(unknown), Ok(None)));
    assert_eq!(cursor.token(), "b");
}
