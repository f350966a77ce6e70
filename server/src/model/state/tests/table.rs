//! Each event in each state: where it leads, or that it means nothing there.

use super::*;

/// Some event of this kind.
fn event(kind: EventKind) -> Event {
    match kind {
        EventKind::Load => Event::Load(load(RestartMode::OnFailure)),
        EventKind::Reload => Event::Reload(load(RestartMode::OnFailure)),
        EventKind::Unload => Event::Unload(Cause::Requested),
        EventKind::SlotGranted => Event::SlotGranted,
        EventKind::Downloaded => Event::Downloaded,
        EventKind::Inspected => Event::Inspected,
        EventKind::EngineBuilt => Event::EngineBuilt,
        EventKind::Warmed => Event::Warmed,
        EventKind::Fault => Event::Fault(broken()),
        EventKind::LoadExpired => Event::LoadExpired(broken()),
        EventKind::Exited => exited(),
        EventKind::Drained => Event::Drained,
        EventKind::DrainExpired => Event::DrainExpired,
        EventKind::Unreaped => Event::Unreaped,
        EventKind::Verified => verified(),
        EventKind::RetryDue => Event::RetryDue,
        EventKind::Stable => Event::Stable,
    }
}

/// A model in this state, with a load that is tried again.
fn model(kind: StateKind) -> State {
    let load = load(RestartMode::OnFailure);
    match kind {
        StateKind::Unloaded => State::Unloaded,
        StateKind::Downloading => State::Downloading(load),
        StateKind::Backoff => State::Backoff {
            load,
            failure: died(),
        },
        StateKind::Failed => State::Failed {
            load,
            failure: broken(),
        },
        StateKind::Pending
        | StateKind::Starting
        | StateKind::Loading
        | StateKind::Warming
        | StateKind::Ready
        | StateKind::Draining
        | StateKind::Unloading => run(path(&load, kind)).0,
    }
}

/// Where an event leads.
type Cell = (EventKind, StateKind);

const IDLE: [Cell; 3] = [
    (EventKind::Load, StateKind::Pending),
    (EventKind::Reload, StateKind::Pending),
    (EventKind::Unload, StateKind::Unloaded),
];

/// Of a load in `kind`, which has no worker and waits for `next`.
fn without_worker(kind: StateKind, next: Cell) -> Vec<Cell> {
    vec![
        (EventKind::Load, kind),
        (EventKind::Reload, StateKind::Pending),
        (EventKind::Unload, StateKind::Unloaded),
        (EventKind::Fault, StateKind::Failed),
        (EventKind::LoadExpired, StateKind::Failed),
        next,
    ]
}

/// Of a load in `kind`, whose worker gets to `next`.
fn with_worker(kind: StateKind, next: Cell) -> Vec<Cell> {
    vec![
        (EventKind::Load, kind),
        (EventKind::Reload, StateKind::Unloading),
        (EventKind::Unload, StateKind::Unloading),
        (EventKind::Fault, kind),
        (EventKind::LoadExpired, kind),
        (EventKind::Exited, StateKind::Backoff),
        (EventKind::Unreaped, StateKind::Unloading),
        next,
    ]
}

const READY: [Cell; 7] = [
    (EventKind::Load, StateKind::Ready),
    (EventKind::Reload, StateKind::Draining),
    (EventKind::Unload, StateKind::Draining),
    (EventKind::Fault, StateKind::Ready),
    (EventKind::Exited, StateKind::Backoff),
    (EventKind::Unreaped, StateKind::Unloading),
    (EventKind::Stable, StateKind::Ready),
];

const DRAINING: [Cell; 8] = [
    (EventKind::Load, StateKind::Draining),
    (EventKind::Reload, StateKind::Draining),
    (EventKind::Unload, StateKind::Draining),
    (EventKind::Fault, StateKind::Draining),
    (EventKind::Drained, StateKind::Unloading),
    (EventKind::DrainExpired, StateKind::Unloading),
    (EventKind::Exited, StateKind::Unloading),
    (EventKind::Unreaped, StateKind::Unloading),
];

const UNLOADING: [Cell; 6] = [
    (EventKind::Load, StateKind::Unloading),
    (EventKind::Reload, StateKind::Unloading),
    (EventKind::Unload, StateKind::Unloading),
    (EventKind::Fault, StateKind::Unloading),
    (EventKind::Exited, StateKind::Unloading),
    (EventKind::Unreaped, StateKind::Unloading),
];

const BACKOFF: [Cell; 5] = [
    (EventKind::Load, StateKind::Backoff),
    (EventKind::Reload, StateKind::Pending),
    (EventKind::Unload, StateKind::Unloaded),
    (EventKind::LoadExpired, StateKind::Failed),
    (EventKind::RetryDue, StateKind::Pending),
];

/// Of a model whose worker has gone in an unload.
const GONE: [Cell; 5] = [
    (EventKind::Load, StateKind::Unloading),
    (EventKind::Reload, StateKind::Unloading),
    (EventKind::Unload, StateKind::Unloading),
    (EventKind::Fault, StateKind::Unloading),
    (EventKind::Verified, StateKind::Unloaded),
];

/// Where each event leads that means something in this state.
fn row(kind: StateKind) -> Vec<Cell> {
    use EventKind::{Downloaded, EngineBuilt, Inspected, SlotGranted, Warmed};
    use StateKind::{Loading, Ready, Starting, Warming};
    match kind {
        StateKind::Unloaded | StateKind::Failed => IDLE.to_vec(),
        StateKind::Pending => without_worker(kind, (SlotGranted, Starting)),
        StateKind::Downloading => without_worker(kind, (Downloaded, Starting)),
        StateKind::Starting => with_worker(kind, (Inspected, Loading)),
        StateKind::Loading => with_worker(kind, (EngineBuilt, Warming)),
        StateKind::Warming => with_worker(kind, (Warmed, Ready)),
        StateKind::Ready => READY.to_vec(),
        StateKind::Draining => DRAINING.to_vec(),
        StateKind::Unloading => UNLOADING.to_vec(),
        StateKind::Backoff => BACKOFF.to_vec(),
    }
}

#[bounded::test]
fn every_event_leads_where_the_table_says_and_means_nothing_elsewhere() {
    let (gone, _) = model(StateKind::Unloading).on(exited()).expect("an exit");
    let kinds = StateKind::VARIANTS.iter();
    let rows = kinds.map(|&kind| (model(kind), row(kind)));
    let rows: Vec<_> = rows.chain([(gone, GONE.to_vec())]).collect();
    for &kind in EventKind::VARIANTS {
        let mut has_a_row = false;
        for (state, row) in &rows {
            let expected = row.iter().find(|(event, _)| *event == kind);
            let expected = expected.map(|(_, to)| *to);
            let led = state.on(event(kind)).map(|(to, _)| to.kind()).ok();
            assert_eq!(led, expected, "{kind:?} of {:?}", state.kind());
            has_a_row |= expected.is_some();
        }
        assert!(has_a_row, "no row has {kind:?}");
    }
}
