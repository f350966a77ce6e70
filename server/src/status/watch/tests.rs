//! Watchers against a real event log.

use proptest::prelude::*;

use super::{super::LogChange, *};
use crate::model::{Generation, LoadPhase, Progress, StateKind};

const HOUR: Duration = Duration::from_secs(3600);

fn id(n: u64) -> ModelId {
    ModelId::parse(&format!("m{n}")).expect("a well-formed id")
}

fn status(model: u64, generation: u64) -> Status {
    Status {
        generation: Generation(generation),
        ..Status::unloaded(id(model))
    }
}

fn loading(model: u64, bytes: u64) -> Status {
    let progress = Progress {
        phase: LoadPhase::Loading,
        bytes_done: bytes,
        bytes_total: 100,
        fraction: 0.1,
        eta: None,
    };
    Status {
        state: StateKind::Loading,
        progress: Some(progress),
        ..Status::unloaded(id(model))
    }
}

fn watch(event_log: &Arc<EventLog>, resume: Option<Option<Revision>>) -> Watch {
    Watch::new(event_log.clone(), Filter::All, resume, Duration::ZERO, HOUR)
        .expect("a position of the past")
}

/// The revisions of all events that can be sent now.
fn revisions(watch: &mut Watch) -> Vec<u64> {
    std::iter::from_fn(|| match watch.poll() {
        Some(WatchItem::Event(event)) => Some(event.revision.0),
        _ => None,
    })
    .collect()
}

#[bounded::test]
fn a_watch_begins_with_a_snapshot_and_goes_on_behind_it() {
    let event_log = EventLog::new(10);
    event_log.transition(status(1, 1));
    let mut watch = watch(&event_log, None);
    let first = watch.poll();
    assert!(
        matches!(first, Some(WatchItem::Snapshot { ref models, reset: false, .. }) if models.len() == 1)
    );
    event_log.transition(status(1, 2));
    assert_eq!(revisions(&mut watch), [2]);
}

#[bounded::test]
fn snapshots_share_what_they_show() {
    let event_log = EventLog::new(10);
    event_log.transition(status(1, 1));
    let shown = || match watch(&event_log, None).poll() {
        Some(WatchItem::Snapshot { models, .. }) => models,
        other => panic!("{other:?}"),
    };
    assert!(Arc::ptr_eq(&shown()[0], &shown()[0]));
}

#[bounded::test]
fn a_slow_watcher_is_reset_and_misses_nothing_silently() {
    let event_log = EventLog::new(4);
    let mut watch = watch(&event_log, None);
    watch.poll();
    for generation in 1..=10 {
        event_log.transition(status(1, generation));
    }
    let caught_up = watch.poll();
    assert!(matches!(
        caught_up,
        Some(WatchItem::Snapshot {
            reset: true,
            revision: Revision(10),
            ..
        })
    ));
    event_log.transition(status(1, 11));
    assert_eq!(revisions(&mut watch), [11]);
}

#[bounded::test]
fn a_position_of_another_epoch_is_reset_and_one_of_the_future_refused() {
    let event_log = EventLog::new(4);
    event_log.transition(status(1, 1));
    assert!(matches!(
        watch(&event_log, Some(None)).poll(),
        Some(WatchItem::Snapshot { reset: true, .. })
    ));
    let future = Watch::new(
        event_log.clone(),
        Filter::All,
        Some(Some(Revision(2))),
        HOUR,
        HOUR,
    );
    assert_eq!(future.err(), Some(ResumeError));
    assert_eq!(event_log.watchers(), 0);
}

#[bounded::test]
fn a_filter_hides_other_models_and_takes_unknown_ones() {
    let event_log = EventLog::new(10);
    let only = Filter::Only([id(2)].into());
    let mut watch = Watch::new(event_log.clone(), only, None, HOUR, HOUR).expect("no position");
    assert!(matches!(watch.poll(), Some(WatchItem::Snapshot { models, .. }) if models.is_empty()));
    event_log.transition(status(1, 1));
    event_log.transition(status(2, 1));
    assert_eq!(revisions(&mut watch), [2]);
}

#[bounded::test]
fn progress_is_coalesced_and_never_sent_after_the_transition_that_ended_it() {
    let event_log = EventLog::new(10);
    let mut watch = watch(&event_log, None);
    watch.poll();
    for bytes in 1..50 {
        event_log.progress(loading(1, bytes));
    }
    let reported = watch.poll();
    let bytes = |notice: &Option<WatchItem>| match notice {
        Some(WatchItem::Event(event)) => match &event.change {
            LogChange::Progress(status) => status.progress.map(|p| p.bytes_done),
            _ => None,
        },
        _ => None,
    };
    assert_eq!(bytes(&reported), Some(49));
    event_log.progress(loading(1, 60));
    event_log.transition(status(1, 1));
    assert!(matches!(watch.poll(), Some(WatchItem::Event(event))
            if matches!(&event.change, LogChange::Transition(status) if status.state == StateKind::Unloaded)));
    assert!(watch.poll().is_none());
}

#[bounded::test]
fn progress_carries_the_revision_of_the_last_transition() {
    let event_log = EventLog::new(10);
    let mut watch = watch(&event_log, None);
    watch.poll();
    event_log.progress(loading(1, 10));
    event_log.transition(status(2, 1));
    assert_eq!(revisions(&mut watch), [1, 1]);
    event_log.transition(status(2, 2));
    assert_eq!(revisions(&mut watch), [2]);
}

#[bounded::test]
async fn a_closed_log_ends_its_watches() {
    let event_log = EventLog::new(10);
    let mut watch = watch(&event_log, None);
    watch.next().await;
    event_log.transition(status(1, 1));
    event_log.close();
    // What happened before is sent, and nothing of what the end of the server does to the models.
    event_log.transition(status(1, 2));
    event_log.progress(loading(2, 1));
    assert!(matches!(watch.next().await, WatchItem::Event(event) if event.revision.0 == 1));
    assert!(matches!(watch.next().await, WatchItem::Closed));
}

#[bounded::test]
async fn silence_is_broken_by_heartbeats() {
    let event_log = EventLog::new(10);
    let mut watch = Watch::new(event_log, Filter::All, None, HOUR, Duration::from_millis(1))
        .expect("no position");
    watch.next().await;
    assert!(matches!(watch.next().await, WatchItem::Heartbeat { .. }));
}

proptest! {
    #[bounded::test]
    fn resumed_watches_add_up_to_an_undisturbed_one(
        steps in prop::collection::vec((0u64..4, any::<bool>(), any::<bool>()), 1..200),
    ) {
        let event_log = EventLog::new(1000);
        let mut undisturbed = watch(&event_log, None);
        undisturbed.poll();
        let mut disturbed = watch(&event_log, None);
        disturbed.poll();
        let mut seen = Vec::new();
        let mut last = Revision::default();
        for (model, disconnect, read) in steps {
            event_log.transition(status(model, 0));
            if disconnect {
                disturbed = watch(&event_log, Some(Some(last)));
            }
            if read && let Some(WatchItem::Event(event)) = disturbed.poll() {
                last = event.revision;
                seen.push(last.0);
            }
        }
        seen.extend(revisions(&mut disturbed));
        prop_assert_eq!(seen, revisions(&mut undisturbed));
    }
}
