//! Every row of the table of transitions, and random lives.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::RestartMode;

fn load(mode: RestartMode) -> Load {
    let policy = RestartPolicy { mode, max_attempts: 3, initial_backoff: Duration::ZERO, ..Default::default() };
    Load { id: LoadId::fresh(), attempt: 1, policy, remote: false }
}

fn died() -> Failure {
    Failure::new(Reason::WorkerDied, "it died")
}

fn broken() -> Failure {
    Failure::new(Reason::ModelUnusable, "it is broken")
}

fn exited() -> Event {
    Event::Exited { failure: died(), restart: LoadId::fresh() }
}

/// Runs `events` from UNLOADED and gives the last state and its actions.
fn run(events: impl IntoIterator<Item = Event>) -> (State, Vec<Action>) {
    let mut at = (State::Unloaded, vec![]);
    for event in events {
        at = at.0.on(event).expect("the event has a meaning here");
    }
    at
}

/// The events that lead from UNLOADED to each stage of a load with `load`.
fn path(load: &Load, stage: Stage) -> Vec<Event> {
    let all = [
        (Stage::Pending, Event::Load(load.clone())),
        (Stage::Starting, Event::SlotGranted),
        (Stage::Loading, Event::Inspected),
        (Stage::Warming, Event::EngineBuilt),
        (Stage::Ready, Event::Warmed),
        (Stage::Draining, Event::Unload(Cause::Asked)),
        (Stage::Unloading, Event::Drained),
    ];
    let end = all.iter().position(|(s, _)| *s == stage).expect("a stage of the way");
    all[..=end].iter().map(|(_, event)| event.clone()).collect()
}

fn then(load: &Load, stage: Stage, event: Event) -> (State, Vec<Action>) {
    run(path(load, stage).into_iter().chain([event]))
}

#[test]
fn a_load_passes_every_stage_up_to_ready() {
    let load = load(RestartMode::OnFailure);
    for stage in [Stage::Pending, Stage::Starting, Stage::Loading, Stage::Warming, Stage::Ready] {
        assert_eq!(run(path(&load, stage)).0.stage(), stage);
    }
    let (_, actions) = run(path(&load, Stage::Ready));
    let finish = Action::Finish(load.id, LoadOutcome::Succeeded);
    assert_eq!(actions, [Action::ReleaseSlot, Action::Admit, finish]);
}

#[test]
fn only_a_hub_source_is_downloaded() {
    let remote = Load { remote: true, ..load(RestartMode::OnFailure) };
    let (state, actions) = then(&remote, Stage::Pending, Event::SlotGranted);
    assert_eq!((state.stage(), actions), (Stage::Downloading, vec![Action::Download]));
    let (state, actions) = state.on(Event::Downloaded).expect("files came");
    assert_eq!((state.stage(), actions), (Stage::Starting, vec![Action::Spawn]));
}

#[test]
fn what_does_not_fit_fails_with_the_numbers() {
    let load = load(RestartMode::OnFailure);
    let refusal = Failure::new(Reason::InsufficientMemory, "needs 2 GiB, 1 GiB is free");
    let (state, actions) = then(&load, Stage::Starting, Event::Fault(refusal.clone()));
    assert_eq!((state.stage(), actions), (Stage::Starting, vec![Action::Kill]));
    let (state, _) = state.on(exited()).expect("the worker went");
    assert_eq!(state, State::Failed { load, failure: refusal });
}

#[test]
fn a_load_is_idempotent_while_loading_and_when_ready() {
    let load = load(RestartMode::OnFailure);
    let again = Event::Load(super::Load { id: LoadId::fresh(), ..load.clone() });
    for stage in [Stage::Pending, Stage::Starting, Stage::Loading, Stage::Warming, Stage::Ready] {
        let (state, actions) = then(&load, stage, again.clone());
        assert_eq!(state.load().map(|l| &l.id), Some(&load.id), "{stage:?}");
        assert_eq!(actions, []);
    }
}

#[test]
fn an_unload_cancels_a_load_in_every_stage() {
    let load = load(RestartMode::OnFailure);
    let cancel = Action::Finish(load.id.clone(), LoadOutcome::Cancelled);
    let (state, actions) = then(&load, Stage::Pending, Event::Unload(Cause::Asked));
    assert_eq!((state, actions), (State::Unloaded, vec![Action::ReleaseSlot, cancel.clone()]));
    for stage in [Stage::Starting, Stage::Loading, Stage::Warming] {
        let (state, actions) = then(&load, stage, Event::Unload(Cause::Asked));
        assert_eq!(state.stage(), Stage::Unloading, "{stage:?}");
        assert_eq!(actions, [Action::ReleaseSlot, Action::Kill, cancel.clone()]);
        let (state, actions) = state.on(exited()).expect("the worker went");
        assert_eq!(actions, [Action::Verify]);
        assert_eq!(state.on(Event::Verified), Ok((State::Unloaded, vec![])));
    }
}

#[test]
fn death_in_a_load_backs_off_until_the_attempts_are_used_up() {
    let first = load(RestartMode::OnFailure);
    for stage in [Stage::Starting, Stage::Loading, Stage::Warming] {
        let mut state = run(path(&first, stage)).0;
        for attempt in 1..3 {
            let (backoff, actions) = state.on(exited()).expect("the worker died");
            assert_eq!(backoff.stage(), Stage::Backoff);
            assert_eq!(actions, [Action::ReleaseSlot, Action::ScheduleRetry(attempt)]);
            state = backoff.on(Event::RetryDue).expect("time for another attempt").0;
            assert_eq!(state.load().map(|l| l.attempt), Some(attempt + 1));
            state = state.on(Event::SlotGranted).expect("a slot").0;
        }
        let (state, actions) = state.on(exited()).expect("the worker died");
        assert_eq!(state.stage(), Stage::Failed);
        assert!(actions.contains(&Action::Finish(first.id.clone(), LoadOutcome::Failed(died()))));
    }
}

#[test]
fn what_another_attempt_cannot_cure_fails_at_once() {
    let load = load(RestartMode::OnFailure);
    let (state, _) = then(&load, Stage::Loading, Event::Fault(broken()));
    let (state, _) = state.on(exited()).expect("the worker went");
    assert_eq!(state, State::Failed { load, failure: broken() });
}

#[test]
fn a_condemned_worker_cannot_become_ready() {
    let load = load(RestartMode::OnFailure);
    let (state, _) = then(&load, Stage::Warming, Event::LoadExpired(broken()));
    assert!(state.on(Event::Warmed).is_err());
}

#[test]
fn every_cause_drains_a_ready_model_first() {
    let load = load(RestartMode::OnFailure);
    for cause in [Cause::Asked, Cause::Evicted, Cause::Idle, Cause::Switched] {
        let (state, actions) = then(&load, Stage::Ready, Event::Unload(cause));
        assert_eq!((state.stage(), actions), (Stage::Draining, vec![Action::Drain]));
        for end in [Event::Drained, Event::DrainExpired] {
            let (state, actions) = state.on(end).expect("the drain ended");
            assert_eq!(state.stage(), Stage::Unloading);
            assert_eq!(actions, [Action::CutOff(unloaded()), Action::Stop]);
        }
    }
}

#[test]
fn only_ready_models_are_evicted() {
    let load = load(RestartMode::OnFailure);
    for stage in [Stage::Pending, Stage::Starting, Stage::Loading, Stage::Warming] {
        assert!(run(path(&load, stage)).0.on(Event::Unload(Cause::Evicted)).is_err());
    }
}

#[test]
fn death_of_a_ready_model_starts_a_new_load() {
    let load = load(RestartMode::OnFailure);
    let restart = LoadId::fresh();
    let event = Event::Exited { failure: died(), restart: restart.clone() };
    let (state, actions) = then(&load, Stage::Ready, event);
    assert_eq!(actions, [Action::CutOff(died()), Action::ScheduleRetry(1)]);
    assert_eq!(state.load().map(|l| &l.id), Some(&restart));
}

#[test]
fn death_of_a_ready_model_that_is_never_restarted_is_final() {
    let load = load(RestartMode::Never);
    let (state, _) = then(&load, Stage::Ready, exited());
    assert_eq!(state, State::Failed { load, failure: died() });
}

#[test]
fn a_hang_cuts_requests_off_and_kills() {
    let load = load(RestartMode::OnFailure);
    let hang = Failure::new(Reason::WorkerHung, "it hangs");
    let (state, actions) = then(&load, Stage::Ready, Event::Fault(hang.clone()));
    assert_eq!(actions, [Action::CutOff(hang.clone()), Action::Kill]);
    let (state, _) = state.on(exited()).expect("the worker went");
    assert_eq!(state.failure(), Some(hang));
}

#[test]
fn a_stable_model_gets_all_its_attempts_again() {
    let tired = Load { attempt: 3, ..load(RestartMode::OnFailure) };
    let (state, _) = then(&tired, Stage::Ready, Event::Stable);
    assert_eq!(state.on(exited()).map(|(s, _)| s.stage()), Ok(Stage::Backoff));
}

#[test]
fn death_while_draining_is_reported_with_its_reason() {
    let (state, actions) = then(&load(RestartMode::OnFailure), Stage::Draining, exited());
    assert_eq!(state.stage(), Stage::Unloading);
    assert_eq!(actions, [Action::CutOff(died()), Action::Verify]);
}

#[test]
fn a_load_during_an_unload_is_remembered() {
    let first = load(RestartMode::OnFailure);
    let second = load(RestartMode::OnFailure);
    for stage in [Stage::Draining, Stage::Unloading] {
        let mut state = then(&first, stage, Event::Load(second.clone())).0;
        if stage == Stage::Draining {
            state = state.on(Event::Drained).expect("drained").0;
        }
        let (state, _) = state.on(exited()).expect("the worker went");
        let (state, actions) = state.on(Event::Verified).expect("verified");
        assert_eq!((state, actions), (State::Unloaded, vec![Action::Resume(second.clone())]));
    }
}

#[test]
fn what_cannot_be_reaped_stays_unloading() {
    let (state, _) = then(&load(RestartMode::OnFailure), Stage::Unloading, Event::Unreaped);
    assert_eq!(state.stage(), Stage::Unloading);
    assert_eq!(state.failure().map(|f| f.reason), Some(Reason::Unreaped));
    let (state, actions) = state.on(exited()).expect("it went after all");
    assert_eq!(actions, [Action::Verify]);
    assert_eq!(state.on(Event::Verified), Ok((State::Unloaded, vec![])));
}

#[test]
fn back_off_and_failed_are_left_by_an_unload() {
    let load = load(RestartMode::OnFailure);
    let (backoff, _) = then(&load, Stage::Loading, exited());
    let (state, actions) = backoff.on(Event::Unload(Cause::Asked)).expect("unload");
    let cancel = Action::Finish(load.id.clone(), LoadOutcome::Cancelled);
    assert_eq!((state, actions), (State::Unloaded, vec![cancel]));
    let failed = State::Failed { load, failure: broken() };
    assert_eq!(failed.on(Event::Unload(Cause::Asked)), Ok((State::Unloaded, vec![])));
}

#[test]
fn the_time_of_a_load_counts_in_back_off_too() {
    let load = load(RestartMode::OnFailure);
    let (backoff, _) = then(&load, Stage::Loading, exited());
    let expired = Failure::new(Reason::LoadTimeout, "300 s are over");
    let (state, _) = backoff.on(Event::LoadExpired(expired)).expect("the time is over");
    assert_eq!(state.stage(), Stage::Failed);
    assert_eq!(state.failure().map(|f| f.reason), Some(Reason::LoadTimeout));
}

/// What surrounds a model: performs actions and says which events can come from outside.
#[derive(Default)]
struct World {
    worker: bool,
    slot: bool,
    downloading: bool,
    admitting: bool,
    retry: bool,
    open: Vec<LoadId>,
}

impl World {
    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::RequestSlot => assert!(!std::mem::replace(&mut self.slot, true), "two slots"),
            Action::ReleaseSlot => assert!(std::mem::replace(&mut self.slot, false), "no slot"),
            Action::Download => self.downloading = true,
            Action::StopDownload => self.downloading = false,
            Action::Spawn => {
                assert!(!std::mem::replace(&mut self.worker, true), "two workers");
                self.downloading = false;
            }
            Action::BuildEngine | Action::Stop | Action::Kill => assert!(self.worker, "no worker"),
            Action::Verify => assert!(!self.worker, "verified before the exit"),
            Action::Admit => self.admitting = true,
            Action::Drain | Action::CutOff(_) => self.admitting = false,
            Action::ScheduleRetry(_) => self.retry = true,
            Action::Finish(id, _) => {
                let at = self.open.iter().position(|open| *open == id).expect("finished twice");
                self.open.remove(at);
            }
            Action::Resume(load) => return Some(Event::Load(load)),
        }
        None
    }

    fn apply(&mut self, state: State, event: Event) -> State {
        let wish = match &event {
            Event::Load(load) | Event::Reload(load) => Some(load.id.clone()),
            _ => None,
        };
        if let Event::Exited { .. } = event {
            self.worker = false;
        }
        let Ok((mut next, actions)) = state.on(event) else { return state };
        let load_of = |s: &State| s.load().or(s.next()).map(|l| l.id.clone());
        let taken = wish.filter(|id| next.next().map(|l| &l.id) == Some(id) || next.load().map(|l| &l.id) == Some(id));
        if let Some(id) = taken.filter(|id| !self.open.contains(id)) {
            self.open.push(id);
        }
        if next.stage() == Stage::Backoff && state.stage() == Stage::Ready {
            self.open.extend(load_of(&next));
        }
        for action in actions {
            if let Some(follow_up) = self.perform(action) {
                next = self.apply(next, follow_up);
            }
        }
        self.check(&next);
        next
    }

    fn check(&self, state: &State) {
        use Stage::{Backoff, Downloading, Failed, Loading, Pending, Ready, Starting, Unloaded, Warming};
        let stage = state.stage();
        if matches!(stage, Unloaded | Pending | Downloading | Backoff | Failed) {
            assert!(!self.worker, "a worker lives in {stage:?}");
        }
        let slotted = matches!(stage, Pending | Downloading | Starting | Loading | Warming);
        assert_eq!(self.slot, slotted, "slot in {stage:?}");
        let serving = matches!(state, State::Ready(run) if run.condemned.is_none());
        assert_eq!(self.admitting, serving, "admission in {stage:?}");
        assert!(stage == Ready || !self.admitting);
        assert!(self.open.len() <= 1, "{} loads are open", self.open.len());
    }
}

fn any_load() -> impl Strategy<Value = Load> {
    let mode = prop_oneof![Just(RestartMode::Never), Just(RestartMode::OnFailure), Just(RestartMode::Always)];
    (mode, any::<bool>()).prop_map(|(mode, remote)| Load { remote, ..load(mode) })
}

fn any_failure() -> impl Strategy<Value = Failure> {
    prop::sample::select(Reason::ALL.to_vec()).prop_map(|reason| Failure::new(reason, "x"))
}

fn any_event() -> impl Strategy<Value = Event> {
    let cause = prop::sample::select(vec![Cause::Asked, Cause::Evicted, Cause::Idle, Cause::Switched]);
    prop_oneof![
        4 => any_load().prop_map(Event::Load),
        1 => any_load().prop_map(Event::Reload),
        2 => cause.prop_map(Event::Unload),
        4 => Just(Event::SlotGranted),
        2 => Just(Event::Downloaded),
        4 => Just(Event::Inspected),
        4 => Just(Event::EngineBuilt),
        4 => Just(Event::Warmed),
        1 => any_failure().prop_map(Event::Fault),
        1 => any_failure().prop_map(Event::LoadExpired),
        2 => any_failure().prop_map(|failure| Event::Exited { failure, restart: LoadId::fresh() }),
        1 => Just(Event::Drained),
        1 => Just(Event::DrainExpired),
        1 => Just(Event::Unreaped),
        3 => Just(Event::Verified),
        3 => Just(Event::RetryDue),
        1 => Just(Event::Stable),
    ]
}

/// Whether the world can bring this event about now.
fn possible(world: &World, state: &State, event: &Event) -> bool {
    match event {
        Event::Exited { .. } | Event::Unreaped | Event::Inspected | Event::EngineBuilt | Event::Warmed => world.worker,
        Event::SlotGranted => world.slot && state.stage() == Stage::Pending,
        Event::Downloaded => world.downloading,
        Event::RetryDue => world.retry,
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn random_lives_keep_the_invariants_and_end_unloaded(events in prop::collection::vec(any_event(), 0..80)) {
        let mut world = World::default();
        let mut state = State::Unloaded;
        for event in events {
            if possible(&world, &state, &event) {
                state = world.apply(state, event);
            }
        }
        for _ in 0..4 {
            state = world.apply(state, Event::Unload(Cause::Asked));
            state = world.apply(state, Event::Drained);
            if world.worker {
                state = world.apply(state, exited());
            }
            state = world.apply(state, Event::Verified);
        }
        prop_assert_eq!(state, State::Unloaded);
        prop_assert!(!world.worker && !world.slot && world.open.is_empty());
    }

    #[test]
    fn impossible_events_are_rejected_without_a_panic(events in prop::collection::vec(any_event(), 0..80)) {
        let mut state = State::Unloaded;
        for event in events {
            if let Ok((next, _)) = state.on(event) {
                state = next;
            }
        }
    }
}
