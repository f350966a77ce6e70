//! Every row of the table of transitions, and the picture.

use std::{collections::BTreeSet, time::Duration};

mod random_sequences;
mod table;

use super::*;
use crate::model::{LoadOutcome, Reason, RestartMode};

fn load(mode: RestartMode) -> Load {
    let policy = RestartPolicy {
        mode,
        max_attempts: 3,
        initial_backoff: Duration::ZERO,
        ..Default::default()
    };
    Load {
        id: LoadId::random(),
        attempt: 1,
        policy,
        remote: false,
    }
}

fn died() -> Failure {
    Failure::new(Reason::WorkerDied, "it died")
}

fn broken() -> Failure {
    Failure::new(Reason::ModelUnusable, "it is broken")
}

fn exited() -> Event {
    Event::Exited {
        failure: died(),
        restart: LoadId::random(),
    }
}

fn verified() -> Event {
    Event::Verified {
        restart: LoadId::random(),
    }
}

/// Runs `events` from UNLOADED and gives the last state and its actions.
fn run(events: impl IntoIterator<Item = Event>) -> (State, Vec<Action>) {
    let mut at = (State::Unloaded, vec![]);
    for event in events {
        at = at.0.on(event).expect("the event has a meaning here");
    }
    at
}

/// The events that lead from UNLOADED to each state of a load with `load`.
fn path(load: &Load, kind: StateKind) -> Vec<Event> {
    let all = [
        (StateKind::Pending, Event::Load(load.clone())),
        (StateKind::Starting, Event::SlotGranted),
        (StateKind::Loading, Event::Inspected),
        (StateKind::Warming, Event::EngineBuilt),
        (StateKind::Ready, Event::Warmed),
        (StateKind::Draining, Event::Unload(Cause::Requested)),
        (StateKind::Unloading, Event::Drained),
    ];
    let end = all
        .iter()
        .position(|(s, _)| *s == kind)
        .expect("a state of the way");
    all[..=end].iter().map(|(_, event)| event.clone()).collect()
}

fn then(load: &Load, kind: StateKind, event: Event) -> (State, Vec<Action>) {
    run(path(load, kind).into_iter().chain([event]))
}

#[bounded::test]
fn the_picture_has_every_state_and_no_other() {
    let (_, picture) = include_str!("../state.rs")
        .split_once("```text")
        .expect("a picture");
    let (picture, _) = picture.split_once("```").expect("its end");
    let drawn = picture.split(|c: char| !c.is_ascii_uppercase());
    let drawn: BTreeSet<_> = drawn.filter(|word| !word.is_empty()).collect();
    let names = StateKind::VARIANTS
        .iter()
        .map(|state| state.name().to_uppercase());
    assert_eq!(
        drawn
            .iter()
            .map(ToString::to_string)
            .collect::<BTreeSet<_>>(),
        names.collect()
    );
}

#[bounded::test]
fn a_load_passes_every_stage_up_to_ready() {
    let load = load(RestartMode::OnFailure);
    for kind in [
        StateKind::Pending,
        StateKind::Starting,
        StateKind::Loading,
        StateKind::Warming,
        StateKind::Ready,
    ] {
        assert_eq!(run(path(&load, kind)).0.kind(), kind);
    }
    let (_, actions) = run(path(&load, StateKind::Ready));
    let finish = Action::Finish(load.id, LoadOutcome::Succeeded);
    assert_eq!(actions, [Action::ReleaseSlot, Action::Admit, finish]);
}

#[bounded::test]
fn only_a_hub_source_is_downloaded() {
    let remote = Load {
        remote: true,
        ..load(RestartMode::OnFailure)
    };
    let (state, actions) = then(&remote, StateKind::Pending, Event::SlotGranted);
    assert_eq!(
        (state.kind(), actions),
        (StateKind::Downloading, vec![Action::Download])
    );
    let (state, actions) = state.on(Event::Downloaded).expect("files came");
    assert_eq!(
        (state.kind(), actions),
        (StateKind::Starting, vec![Action::Spawn])
    );
}

#[bounded::test]
fn what_does_not_fit_fails_with_the_numbers() {
    let load = load(RestartMode::OnFailure);
    let refusal = Failure::new(Reason::InsufficientMemory, "needs 2 GiB, 1 GiB is free");
    let (state, actions) = then(&load, StateKind::Starting, Event::Fault(refusal.clone()));
    assert_eq!(
        (state.kind(), actions),
        (StateKind::Starting, vec![Action::Kill])
    );
    let (state, _) = state.on(exited()).expect("the worker went");
    assert_eq!(
        state,
        State::Failed {
            load,
            failure: refusal
        }
    );
}

#[bounded::test]
fn a_load_is_idempotent_while_loading_and_when_ready() {
    let load = load(RestartMode::OnFailure);
    let again = Event::Load(super::Load {
        id: LoadId::random(),
        ..load.clone()
    });
    for kind in [
        StateKind::Pending,
        StateKind::Starting,
        StateKind::Loading,
        StateKind::Warming,
        StateKind::Ready,
    ] {
        let (state, actions) = then(&load, kind, again.clone());
        assert_eq!(state.load().map(|l| &l.id), Some(&load.id), "{kind:?}");
        assert_eq!(actions, []);
    }
}

#[bounded::test]
fn an_unload_cancels_a_load_in_every_state() {
    let load = load(RestartMode::OnFailure);
    let cancel = Action::Finish(load.id.clone(), LoadOutcome::Cancelled);
    let (state, actions) = then(&load, StateKind::Pending, Event::Unload(Cause::Requested));
    assert_eq!(
        (state, actions),
        (State::Unloaded, vec![Action::ReleaseSlot, cancel.clone()])
    );
    for kind in [StateKind::Starting, StateKind::Loading, StateKind::Warming] {
        let (state, actions) = then(&load, kind, Event::Unload(Cause::Requested));
        assert_eq!(state.kind(), StateKind::Unloading, "{kind:?}");
        assert_eq!(actions, [Action::ReleaseSlot, Action::Kill, cancel.clone()]);
        let (state, actions) = state.on(exited()).expect("the worker went");
        assert_eq!(actions, [Action::Verify]);
        assert_eq!(state.on(verified()), Ok((State::Unloaded, vec![])));
    }
}

#[bounded::test]
fn death_in_a_load_backs_off_until_the_attempts_are_used_up() {
    let first = load(RestartMode::OnFailure);
    for kind in [StateKind::Starting, StateKind::Loading, StateKind::Warming] {
        let mut state = run(path(&first, kind)).0;
        for attempt in 1..3 {
            let (backoff, actions) = state.on(exited()).expect("the worker died");
            assert_eq!(backoff.kind(), StateKind::Backoff);
            assert_eq!(
                actions,
                [Action::ReleaseSlot, Action::ScheduleRetry(attempt)]
            );
            state = backoff
                .on(Event::RetryDue)
                .expect("time for another attempt")
                .0;
            assert_eq!(state.load().map(|l| l.attempt), Some(attempt + 1));
            state = state.on(Event::SlotGranted).expect("a slot").0;
        }
        let (state, actions) = state.on(exited()).expect("the worker died");
        assert_eq!(state.kind(), StateKind::Failed);
        assert!(actions.contains(&Action::Finish(
            first.id.clone(),
            LoadOutcome::Failed(died())
        )));
    }
}

#[bounded::test]
fn what_another_attempt_cannot_cure_fails_at_once() {
    let load = load(RestartMode::OnFailure);
    let (state, _) = then(&load, StateKind::Loading, Event::Fault(broken()));
    let (state, _) = state.on(exited()).expect("the worker went");
    assert_eq!(
        state,
        State::Failed {
            load,
            failure: broken()
        }
    );
}

#[bounded::test]
fn a_terminating_worker_cannot_become_ready() {
    let load = load(RestartMode::OnFailure);
    let (state, _) = then(&load, StateKind::Warming, Event::LoadExpired(broken()));
    assert!(state.on(Event::Warmed).is_err());
}

#[bounded::test]
fn every_cause_drains_a_ready_model_first() {
    let load = load(RestartMode::OnFailure);
    for &cause in Cause::VARIANTS {
        let (state, actions) = then(&load, StateKind::Ready, Event::Unload(cause));
        assert_eq!(
            (state.kind(), actions),
            (StateKind::Draining, vec![Action::Drain])
        );
        for end in [Event::Drained, Event::DrainExpired] {
            let (state, actions) = state.on(end).expect("the drain ended");
            assert_eq!(state.kind(), StateKind::Unloading);
            assert_eq!(actions, [Action::CutOff(unloaded()), Action::Stop]);
        }
    }
}

#[bounded::test]
fn only_ready_models_are_evicted() {
    let load = load(RestartMode::OnFailure);
    for kind in [
        StateKind::Pending,
        StateKind::Starting,
        StateKind::Loading,
        StateKind::Warming,
    ] {
        assert!(
            run(path(&load, kind))
                .0
                .on(Event::Unload(Cause::Evicted))
                .is_err()
        );
    }
}

#[bounded::test]
fn death_of_a_ready_model_starts_a_new_load() {
    let load = load(RestartMode::OnFailure);
    let restart = LoadId::random();
    let event = Event::Exited {
        failure: died(),
        restart: restart.clone(),
    };
    let (state, actions) = then(&load, StateKind::Ready, event);
    assert_eq!(actions, [Action::CutOff(died()), Action::ScheduleRetry(1)]);
    assert_eq!(state.load().map(|l| &l.id), Some(&restart));
}

#[bounded::test]
fn death_of_a_ready_model_that_is_never_restarted_is_final() {
    let load = load(RestartMode::Never);
    let (state, _) = then(&load, StateKind::Ready, exited());
    assert_eq!(
        state,
        State::Failed {
            load,
            failure: died()
        }
    );
}

#[bounded::test]
fn a_hang_cuts_requests_off_and_kills() {
    let load = load(RestartMode::OnFailure);
    let hang = Failure::new(Reason::WorkerHung, "it hangs");
    let (state, actions) = then(&load, StateKind::Ready, Event::Fault(hang.clone()));
    assert_eq!(actions, [Action::CutOff(hang.clone()), Action::Kill]);
    let (state, _) = state.on(exited()).expect("the worker went");
    assert_eq!(state.failure(), Some(hang));
}

#[bounded::test]
fn a_load_of_what_is_being_killed_comes_next() {
    let hang = Failure::new(Reason::WorkerHung, "it hangs");
    for mode in [RestartMode::Never, RestartMode::Always] {
        let (first, next) = (load(mode), load(mode));
        let (state, _) = then(&first, StateKind::Ready, Event::Fault(hang.clone()));
        let (state, actions) = state.on(Event::Load(next.clone())).expect("it is wanted");
        assert_eq!(
            (state.kind(), state.next(), actions),
            (StateKind::Draining, Some(&next), vec![Action::Drain])
        );
        let (state, _) = state.on(exited()).expect("the worker went");
        assert_eq!(state.failure(), Some(hang.clone()));
        let (_, actions) = state.on(verified()).expect("its memory came back");
        assert_eq!(actions, [Action::StartLoad(next)]);
    }
}

#[bounded::test]
fn a_stable_model_gets_all_its_attempts_again() {
    let tired = Load {
        attempt: 3,
        ..load(RestartMode::OnFailure)
    };
    let (state, _) = then(&tired, StateKind::Ready, Event::Stable);
    assert_eq!(
        state.on(exited()).map(|(s, _)| s.kind()),
        Ok(StateKind::Backoff)
    );
}

#[bounded::test]
fn death_while_draining_is_reported_with_its_reason() {
    let (state, actions) = then(&load(RestartMode::OnFailure), StateKind::Draining, exited());
    assert_eq!(state.kind(), StateKind::Unloading);
    assert_eq!(actions, [Action::CutOff(died()), Action::Verify]);
    assert_eq!(state.failure(), Some(died()));
}

#[bounded::test]
fn a_load_during_an_unload_is_remembered() {
    let first = load(RestartMode::OnFailure);
    let second = load(RestartMode::OnFailure);
    for kind in [StateKind::Draining, StateKind::Unloading] {
        let mut state = then(&first, kind, Event::Load(second.clone())).0;
        if kind == StateKind::Draining {
            state = state.on(Event::Drained).expect("drained").0;
        }
        let (state, _) = state.on(exited()).expect("the worker went");
        let (state, actions) = state.on(verified()).expect("verified");
        assert_eq!(
            (state, actions),
            (State::Unloaded, vec![Action::StartLoad(second.clone())])
        );
    }
}

#[bounded::test]
fn what_cannot_be_reaped_stays_unloading() {
    let (state, _) = then(
        &load(RestartMode::OnFailure),
        StateKind::Unloading,
        Event::Unreaped,
    );
    assert_eq!(state.kind(), StateKind::Unloading);
    assert_eq!(state.failure().map(|f| f.reason), Some(Reason::Unreaped));
    let (state, actions) = state.on(exited()).expect("it went after all");
    assert_eq!(actions, [Action::Verify]);
    assert_eq!(state.on(verified()), Ok((State::Unloaded, vec![])));
}

/// A load in `kind` whose worker is killed for `failure`, cannot be reaped, and goes at last.
fn gone_at_last(load: &Load, kind: StateKind, failure: &Failure) -> (State, Vec<Action>) {
    let (killed, _) = then(load, kind, Event::Fault(failure.clone()));
    let (state, actions) = killed.on(Event::Unreaped).expect("the worker does not go");
    assert_eq!(state.kind(), StateKind::Unloading);
    assert_eq!(state.failure().map(|f| f.reason), Some(Reason::Unreaped));
    let outcome = LoadOutcome::Failed(failure.clone());
    let finish = Action::Finish(load.id.clone(), outcome);
    assert_eq!(actions.contains(&finish), kind != StateKind::Ready);
    let (state, actions) = state.on(exited()).expect("it went after all");
    assert_eq!(actions, [Action::Verify]);
    assert_eq!(state.failure().as_ref(), Some(failure));
    state.on(verified()).expect("its memory was checked")
}

#[bounded::test]
fn a_worker_that_goes_late_leaves_its_model_as_its_failure_would_have() {
    for kind in [
        StateKind::Starting,
        StateKind::Loading,
        StateKind::Warming,
        StateKind::Ready,
    ] {
        let load = load(RestartMode::OnFailure);
        let failed = State::Failed {
            load: load.clone(),
            failure: broken(),
        };
        assert_eq!(gone_at_last(&load, kind, &broken()), (failed, vec![]));
        let (state, actions) = gone_at_last(&load, kind, &died());
        assert_eq!(
            (state.kind(), state.failure()),
            (StateKind::Backoff, Some(died()))
        );
        assert_eq!(actions, [Action::ScheduleRetry(1)]);
        let again = state.load().expect("another load").id.clone();
        // The one before was refused already.
        assert_ne!(again, load.id);
    }
}

#[bounded::test]
fn what_is_asked_for_meanwhile_replaces_what_a_lost_load_leads_to() {
    let first = load(RestartMode::OnFailure);
    let second = load(RestartMode::OnFailure);
    let start = vec![Action::StartLoad(second.clone())];
    for (event, actions) in [
        (Event::Unload(Cause::Requested), vec![]),
        (Event::Load(second), start),
    ] {
        let (killed, _) = then(&first, StateKind::Loading, Event::Fault(died()));
        let state = [Event::Unreaped, event, exited()]
            .into_iter()
            .fold(killed, |state, event| state.on(event).expect("a meaning").0);
        assert_eq!(state.on(verified()), Ok((State::Unloaded, actions)));
    }
}

#[bounded::test]
fn back_off_and_failed_are_left_by_an_unload() {
    let load = load(RestartMode::OnFailure);
    let (backoff, _) = then(&load, StateKind::Loading, exited());
    let (state, actions) = backoff.on(Event::Unload(Cause::Requested)).expect("unload");
    let cancel = Action::Finish(load.id.clone(), LoadOutcome::Cancelled);
    assert_eq!((state, actions), (State::Unloaded, vec![cancel]));
    let failed = State::Failed {
        load,
        failure: broken(),
    };
    assert_eq!(
        failed.on(Event::Unload(Cause::Requested)),
        Ok((State::Unloaded, vec![]))
    );
}

#[bounded::test]
fn the_time_of_a_load_counts_in_back_off_too() {
    let load = load(RestartMode::OnFailure);
    let (backoff, _) = then(&load, StateKind::Loading, exited());
    let expired = Failure::new(Reason::LoadTimeout, "300 s are over");
    let (state, _) = backoff
        .on(Event::LoadExpired(expired))
        .expect("the time is over");
    assert_eq!(state.kind(), StateKind::Failed);
    assert_eq!(state.failure().map(|f| f.reason), Some(Reason::LoadTimeout));
}
