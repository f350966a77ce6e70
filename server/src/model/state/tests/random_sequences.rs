//! Random lives: whatever happens in whatever order, the invariants hold.

use proptest::prelude::*;
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
        use StateKind::{
            Backoff, Downloading, Failed, Loading, Pending, Ready, Starting, Unloaded, Warming,
        };
        let kind = state.kind();
        if matches!(kind, Unloaded | Pending | Downloading | Backoff | Failed) {
            assert!(!self.worker, "a worker lives in {kind:?}");
        }
        assert!(kind.has_worker() || !self.worker, "{kind:?}");
        let slotted = matches!(kind, Pending | Downloading | Starting | Loading | Warming);
        assert_eq!(self.slot, slotted, "slot in {kind:?}");
        let serving = matches!(state, State::Ready(run) if run.terminating.is_none());
        assert_eq!(self.admitting, serving, "admission in {kind:?}");
        assert!(kind == Ready || !self.admitting);
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

fn any_event() -> impl Strategy<Value = Event> {
    let cause = prop::sample::select(vec![Cause::Requested, Cause::Evicted, Cause::Idle]);
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
        2 => any_failure().prop_map(|failure| Event::Exited { failure, restart: LoadId::random() }),
        1 => Just(Event::Drained),
        1 => Just(Event::DrainExpired),
        1 => Just(Event::Unreaped),
        3 => Just(()).prop_map(|()| verified()),
        3 => Just(Event::RetryDue),
        1 => Just(Event::Stable),
    ]
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
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn random_sequences_keep_the_invariants_and_end_unloaded(events in prop::collection::vec(any_event(), 0..80)) {
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
