//! Random lives: whatever happens in whatever order, the invariants hold.

use std::collections::HashSet;

use proptest::{
    prelude::*,
    strategy::{Union, ValueTree},
    test_runner::TestRunner,
};
use strum::VariantArray;

use super::*;

/// What surrounds a model: performs actions and says which events can come from outside.
#[derive(Default)]
struct ModelHarness {
    worker: bool,
    slot: bool,
    downloading: bool,
    admitting: bool,
    retry: bool,
    open: Vec<LoadId>,
}

impl ModelHarness {
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
                let at = self
                    .open
                    .iter()
                    .position(|open| *open == id)
                    .expect("finished twice");
                self.open.remove(at);
            }
            Action::StartLoad(load) => return Some(Event::Load(load)),
        }
        None
    }

    fn apply(&mut self, state: State, event: Event) -> State {
        let requested = match &event {
            Event::Load(load) | Event::Reload(load) => Some(load.id.clone()),
            _ => None,
        };
        if let Event::Exited { .. } = event {
            self.worker = false;
        }
        let Ok((mut next, actions)) = state.on(event) else {
            return state;
        };
        let load_of = |s: &State| s.load().or(s.next()).map(|l| l.id.clone());
        let taken = requested.filter(|id| {
            next.next().map(|l| &l.id) == Some(id) || next.load().map(|l| &l.id) == Some(id)
        });
        if let Some(id) = taken.filter(|id| !self.open.contains(id)) {
            self.open.push(id);
        }
        if next.kind() == StateKind::Backoff
            && matches!(state.kind(), StateKind::Ready | StateKind::Unloading)
        {
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
        let kind = state.kind();
        assert!(
            kind.has_worker() || !self.worker,
            "a worker lives in {kind:?}"
        );
        let slotted = kind.load_phase().is_some();
        assert_eq!(self.slot, slotted, "slot in {kind:?}");
        let serving = matches!(state, State::Ready(run) if run.terminating.is_none());
        assert_eq!(self.admitting, serving, "admission in {kind:?}");
        assert!(self.open.len() <= 1, "{} loads are open", self.open.len());
    }
}

fn any_load() -> impl Strategy<Value = Load> {
    let mode = prop_oneof![
        Just(RestartMode::Never),
        Just(RestartMode::OnFailure),
        Just(RestartMode::Always)
    ];
    (mode, any::<bool>()).prop_map(|(mode, remote)| Load {
        remote,
        ..load(mode)
    })
}

fn any_failure() -> impl Strategy<Value = Failure> {
    prop::sample::select(Reason::VARIANTS.to_vec()).prop_map(|reason| Failure::new(reason, "x"))
}

/// Some event of this kind, and how often there is one among others.
fn event_of(kind: EventKind) -> (u32, BoxedStrategy<Event>) {
    let cause = || prop::sample::select(Cause::VARIANTS);
    let only = |weight, event| (weight, Just(event).boxed());
    match kind {
        EventKind::Load => (4, any_load().prop_map(Event::Load).boxed()),
        EventKind::Reload => (1, any_load().prop_map(Event::Reload).boxed()),
        EventKind::Unload => (2, cause().prop_map(Event::Unload).boxed()),
        EventKind::SlotGranted => only(4, Event::SlotGranted),
        EventKind::Downloaded => only(2, Event::Downloaded),
        EventKind::Inspected => only(4, Event::Inspected),
        EventKind::EngineBuilt => only(4, Event::EngineBuilt),
        EventKind::Warmed => only(4, Event::Warmed),
        EventKind::Fault => (1, any_failure().prop_map(Event::Fault).boxed()),
        EventKind::LoadExpired => (1, any_failure().prop_map(Event::LoadExpired).boxed()),
        EventKind::Exited => {
            let exited = |failure| Event::Exited {
                failure,
                restart: LoadId::random(),
            };
            (2, any_failure().prop_map(exited).boxed())
        }
        EventKind::Drained => only(3, Event::Drained),
        EventKind::DrainExpired => only(1, Event::DrainExpired),
        EventKind::Unreaped => only(1, Event::Unreaped),
        EventKind::Verified => (3, Just(()).prop_map(|()| verified()).boxed()),
        EventKind::RetryDue => only(3, Event::RetryDue),
        EventKind::Stable => only(1, Event::Stable),
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    Union::new_weighted(EventKind::VARIANTS.iter().copied().map(event_of).collect())
}

fn any_events() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(any_event(), 0..80)
}

/// Whether this event can come about now.
fn possible(harness: &ModelHarness, state: &State, event: &Event) -> bool {
    match event {
        Event::Exited { .. }
        | Event::Unreaped
        | Event::Inspected
        | Event::EngineBuilt
        | Event::Warmed => harness.worker,
        Event::SlotGranted => harness.slot && state.kind() == StateKind::Pending,
        Event::Downloaded => harness.downloading,
        Event::RetryDue => harness.retry,
        Event::Load(_) | Event::Reload(_) | Event::Unload(_) => true,
        Event::Fault(_) | Event::LoadExpired(_) | Event::Stable => true,
        Event::Drained | Event::DrainExpired | Event::Verified { .. } => true,
    }
}

#[bounded::test]
fn every_state_is_reached_and_every_event_has_a_meaning() {
    let mut runner = TestRunner::deterministic();
    let (mut reached, mut events) = (HashSet::new(), HashSet::new());
    for _ in 0..10_000 {
        let mut harness = ModelHarness::default();
        let mut state = State::Unloaded;
        let sequence = any_events().new_tree(&mut runner).expect("events");
        for event in sequence.current() {
            if possible(&harness, &state, &event) && state.on(event.clone()).is_ok() {
                events.insert(EventKind::from(&event));
                state = harness.apply(state, event);
                reached.insert(state.kind());
            }
        }
    }
    let mut unreached = StateKind::VARIANTS.to_vec();
    unreached.retain(|state| !reached.contains(state));
    assert!(unreached.is_empty(), "nothing leads to {unreached:?}");
    let mut unheard = EventKind::VARIANTS.to_vec();
    unheard.retain(|event| !events.contains(event));
    assert!(unheard.is_empty(), "no state goes by {unheard:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[bounded::test]
    fn random_sequences_keep_the_invariants_and_end_unloaded(events in any_events()) {
        let mut harness = ModelHarness::default();
        let mut state = State::Unloaded;
        for event in events {
            if possible(&harness, &state, &event) {
                state = harness.apply(state, event);
            }
        }
        for _ in 0..4 {
            state = harness.apply(state, Event::Unload(Cause::Requested));
            state = harness.apply(state, Event::Drained);
            if harness.worker {
                state = harness.apply(state, exited());
            }
            state = harness.apply(state, verified());
        }
        prop_assert_eq!(state, State::Unloaded);
        prop_assert!(!harness.worker && !harness.slot && harness.open.is_empty());
    }

    #[bounded::test]
    fn impossible_events_are_rejected_without_a_panic(events in any_events()) {
        let mut state = State::Unloaded;
        for event in events {
            if let Ok((next, _)) = state.on(event) {
                state = next;
            }
        }
    }
}
