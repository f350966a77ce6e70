//! Each event in each state: where it leads, or that it means nothing there.

use EventKind::{
    Downloaded, DrainExpired, Drained, EngineBuilt, Exited, Fault, Inspected, Load, LoadExpired,
    Reload, RetryDue, SlotGranted, Stable, Unload, Unreaped, Verified, Warmed,
};
use StateKind::{
    Backoff, Downloading, Draining, Failed, Loading, Pending, Ready, Starting, Unloaded, Unloading,
    Warming,
};

use super::*;

/// Some event of this kind.
fn event(kind: EventKind) -> Event {
    match kind {
        Load => Event::Load(load(RestartMode::OnFailure)),
        Reload => Event::Reload(load(RestartMode::OnFailure)),
        Unload => Event::Unload(Cause::Requested),
        SlotGranted => Event::SlotGranted,
        Downloaded => Event::Downloaded,
        Inspected => Event::Inspected,
        EngineBuilt => Event::EngineBuilt,
        Warmed => Event::Warmed,
        Fault => Event::Fault(broken()),
        LoadExpired => Event::LoadExpired(broken()),
        Exited => exited(),
        Drained => Event::Drained,
        DrainExpired => Event::DrainExpired,
        Unreaped => Event::Unreaped,
        Verified => verified(),
        RetryDue => Event::RetryDue,
        Stable => Event::Stable,
    }
}

/// A model in this state, with a load that is tried again.
fn model(kind: StateKind) -> State {
    let load = load(RestartMode::OnFailure);
    match kind {
        Unloaded => State::Unloaded,
        Downloading => State::Downloading(load),
        Backoff => State::Backoff {
            load,
            failure: died(),
        },
        Failed => State::Failed {
            load,
            failure: broken(),
        },
        Pending | Starting | Loading | Warming | Ready | Draining | Unloading => {
            run(path(&load, kind)).0
        }
    }
}

/// A state, and the events that lead to it.
type Cell = (StateKind, &'static [EventKind]);

const LOADING: &[Cell] = &[
    (Loading, &[Load, Fault, LoadExpired]),
    (Unloading, &[Reload, Unload, Unreaped]),
    (Backoff, &[Exited]),
    (Warming, &[EngineBuilt]),
];

const WARMING: &[Cell] = &[
    (Warming, &[Load, Fault, LoadExpired]),
    (Unloading, &[Reload, Unload, Unreaped]),
    (Backoff, &[Exited]),
    (Ready, &[Warmed]),
];

const READY: &[Cell] = &[
    (Ready, &[Load, Fault, Stable]),
    (Draining, &[Reload, Unload]),
    (Backoff, &[Exited]),
    (Unloading, &[Unreaped]),
];

const DRAINING: &[Cell] = &[
    (Draining, &[Load, Reload, Unload, Fault]),
    (Unloading, &[Drained, DrainExpired, Exited, Unreaped]),
];

/// Of a model whose worker has gone in an unload.
const GONE: &[Cell] = &[
    (Unloading, &[Load, Reload, Unload, Fault]),
    (Unloaded, &[Verified]),
];

/// Where the events lead that mean something in this state.
fn row(kind: StateKind) -> &'static [Cell] {
    match kind {
        Unloaded | Failed => &[(Pending, &[Load, Reload]), (Unloaded, &[Unload])],
        Pending => &[
            (Pending, &[Load, Reload]),
            (Unloaded, &[Unload]),
            (Failed, &[Fault, LoadExpired]),
            (Starting, &[SlotGranted]),
        ],
        Downloading => &[
            (Downloading, &[Load]),
            (Pending, &[Reload]),
            (Unloaded, &[Unload]),
            (Failed, &[Fault, LoadExpired]),
            (Starting, &[Downloaded]),
        ],
        Starting => &[
            (Starting, &[Load, Fault, LoadExpired]),
            (Unloading, &[Reload, Unload, Unreaped]),
            (Backoff, &[Exited]),
            (Loading, &[Inspected]),
        ],
        Loading => LOADING,
        Warming => WARMING,
        Ready => READY,
        Draining => DRAINING,
        Unloading => &[(Unloading, &[Load, Reload, Unload, Fault, Exited, Unreaped])],
        Backoff => &[
            (Backoff, &[Load]),
            (Pending, &[Reload, RetryDue]),
            (Unloaded, &[Unload]),
            (Failed, &[LoadExpired]),
        ],
    }
}

#[bounded::test]
fn every_event_leads_where_the_table_says_and_means_nothing_elsewhere() {
    let (gone, _) = model(Unloading).on(exited()).expect("an exit");
    let kinds = StateKind::VARIANTS.iter();
    let rows = kinds.map(|&kind| (model(kind), row(kind)));
    let rows: Vec<_> = rows.chain([(gone, GONE)]).collect();
    for &kind in EventKind::VARIANTS {
        let mut has_a_row = false;
        for (state, row) in &rows {
            let expected = row.iter().find(|(_, events)| events.contains(&kind));
            let expected = expected.map(|(to, _)| *to);
            let led = state.on(event(kind)).map(|(to, _)| to.kind()).ok();
            assert_eq!(led, expected, "{kind:?} of {:?}", state.kind());
            has_a_row |= expected.is_some();
        }
        assert!(has_a_row, "no row has {kind:?}");
    }
}
