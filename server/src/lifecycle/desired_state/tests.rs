//! What is wanted of models whose drivers do not turn: their commands stay in their queues, to be looked at.

use std::{
    path::Path,
    pin::pin,
    time::{Duration, SystemTime},
};

use futures::{FutureExt, future::join};
use tokio::{sync::mpsc, time::timeout};

use super::*;
use crate::{
    catalog::{AliasMove, Catalog, DeferredWrite, EntryChange, ModelOrigin, NewEntry},
    download::{Downloads, HubOptions, Repositories},
    lifecycle::{
        CudaWorker, Devices, LifecycleLimits, MemoryAdmission, ModelRoots, Resources,
        command::{DriverCommand, LoadInstruction},
        holders::Holder,
        session_id::SessionName,
        tracked_model::TrackedModel,
    },
    model::{
        Source, Spec, Status, SuspendCause, Suspension, Switch, SwitchId, SwitchOutcome,
        SwitchStrategy,
    },
    status::{EventLog, Publisher},
    supervisor::Supervisor,
    system::SystemMonitor,
    telemetry::model_metrics::ModelMetrics,
    worker::{CommonConfig, Spawner, WorkerProgram},
};

/// No test waits for longer.
const DEADLINE: Duration = Duration::from_secs(10);

const NO_TIME: Duration = Duration::ZERO;

/// Desired state over a catalog of its own.
struct Desk {
    _directory: tempfile::TempDir,
    context: Arc<Context>,
    desired_state: Arc<DesiredState>,
}

fn id(id: &str) -> ModelId {
    ModelId::parse(id).expect("a well-formed id")
}

fn limits() -> LifecycleLimits {
    LifecycleLimits {
        concurrent_loads: 1,
        concurrent_device_loads: 1,
        device_release_timeout: DEADLINE,
        load_timeout: DEADLINE,
        memory_high_watermark: 1.0,
        max_concurrency: 1,
        max_queue: 1,
        ready_timeout: DEADLINE,
        kill_timeout: DEADLINE,
        hang_timeout: DEADLINE,
        spin_timeout: DEADLINE,
        spin_timeout_per_prompt_token: NO_TIME,
        max_spin_timeout: DEADLINE,
        stall_timeout: DEADLINE,
        stall_timeout_per_gib: NO_TIME,
        drain_timeout: NO_TIME,
        shutdown_drain_timeout: NO_TIME,
    }
}

/// What a fleet in `directory` would be made of, without workers.
fn resources(directory: &Path) -> Resources {
    let supervisor = Supervisor::default();
    let system = Arc::new(SystemMonitor::new(directory));
    let hub = HubOptions {
        endpoint: String::new(),
        token: None,
        offline: true,
        cache_dir: directory.join("hub"),
        repositories: Repositories::default(),
        stall_timeout: DEADLINE,
    };
    let catalog = Catalog::open(&directory.join("catalog.db"), 100, &supervisor);
    Resources {
        catalog: catalog.expect("a new catalog"),
        event_log: EventLog::new(100),
        roots: ModelRoots::default(),
        downloads: Arc::new(Downloads::new(hub).expect("a directory")),
        program: WorkerProgram {
            path: "/nowhere".into(),
            environment: Vec::new(),
        },
        spawner: Spawner::idle(),
        runtime_dir: directory.into(),
        prepared: None,
        worker_config: CommonConfig {
            cache_dir: directory.into(),
            otlp_endpoint: None,
            log_filter: String::new(),
            trace_sample_ratio: 0.0,
        },
        memory: MemoryAdmission::new(system.clone(), None),
        devices: Devices::new(
            system,
            CudaWorker {
                path: "/nowhere".into(),
                installed: false,
            },
            DEADLINE,
        ),
        limits: limits(),
        supervisor,
        metrics: ModelMetrics::default(),
    }
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let holders = HoldersWriter::default();
        let context = Context::new(resources(directory.path()), holders.holders().clone());
        let desired_state = DesiredState::new(context.clone(), holders);
        Self {
            _directory: directory,
            context,
            desired_state,
        }
    }

    async fn register(&self, name: &str) -> CatalogEntry {
        let new = NewEntry {
            id: id(name),
            spec: Spec::of(Source::Demo),
            aliases: Vec::new(),
            origin: ModelOrigin::Api,
        };
        let entry = self.context.catalog.create(new, None).await;
        entry.expect("a new entry")
    }

    /// Registers `name`, with a queue for `room` commands that nobody takes out.
    async fn model(&self, name: &str, room: usize) -> mpsc::Receiver<DriverCommand> {
        let entry = self.register(name).await;
        let (commands, inbox) = mpsc::channel(room);
        let log = self.context.event_log.clone();
        let publisher = Publisher::new(log, Status::unloaded(id(name)));
        let cell = publisher.cell().clone();
        let make = || {
            let metrics = ModelMetrics::default();
            Arc::new(TrackedModel::new(entry, commands, metrics, cell))
        };
        assert!(self.context.track(&id(name), make).is_some());
        inbox
    }

    /// The aliases that the model `name` tells of.
    fn known_aliases(&self, name: &str) -> Vec<ModelId> {
        let model = self.context.model(&id(name)).expect("a tracked model");
        model.facts().entry.aliases.clone()
    }

    async fn load(&self, name: &str) {
        let locked = self.desired_state.lock(&id(name)).await;
        let instruction = LoadInstruction::by_the_server(DEADLINE);
        let queued = locked.load(None, true, instruction).await;
        drop(queued.expect("a load in the queue"));
    }

    async fn unload(&self, name: &str) {
        let locked = self.desired_state.lock_at_once(&id(name)).await;
        let queued = locked.unload(NO_TIME).await.expect("a commit");
        assert!(queued.is_some());
    }

    async fn begin_switch(&self, alias: &str, to: &str) -> Switch {
        let locked = self.desired_state.lock_switch(&id(alias), &id(to)).await;
        let (alias, from) = (id(alias), locked.from().cloned());
        let make = |to: &CatalogEntry| switch(alias, from, to.id.clone());
        let begun = locked.begin(None, make, |_| {}).await;
        begun.expect("a switch").switch
    }

    /// What is on disk, and what is remembered.
    async fn desired(&self, name: &str) -> (bool, bool) {
        let entry = self.context.catalog.get(&id(name)).await;
        let entry = entry.expect("a read").expect("an entry");
        let model = self.context.model(&id(name)).expect("a tracked model");
        (entry.desired, model.facts().desired)
    }
}

fn switch(alias: ModelId, from: Option<ModelId>, to: ModelId) -> Switch {
    Switch {
        id: SwitchId::random(),
        alias,
        from,
        to,
        strategy: SwitchStrategy::LoadFirst,
        outcome: None,
        failure: None,
        began: SystemTime::now(),
        ended: None,
    }
}

fn ended(switch: Switch) -> Switch {
    Switch {
        outcome: Some(SwitchOutcome::Succeeded),
        ended: Some(SystemTime::now()),
        ..switch
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(DEADLINE, work).await.expect("nobody waits so long")
}

/// Whether the last load or unload of those in the queue is a load.
fn last_is_load(inbox: &mut mpsc::Receiver<DriverCommand>) -> Option<bool> {
    let mut last = None;
    while let Ok(command) = inbox.try_recv() {
        match command {
            DriverCommand::Load(_) => last = Some(true),
            DriverCommand::Unload(_) => last = Some(false),
            _ => {}
        }
    }
    last
}

#[bounded::test]
async fn what_is_on_disk_is_what_is_remembered_and_what_the_driver_heard_last() {
    let desk = Desk::new();
    let mut inbox = desk.model("m", 100).await;
    for _ in 0..10 {
        let loads = join(desk.load("m"), desk.load("m"));
        let unloads = join(desk.unload("m"), desk.unload("m"));
        in_time(join(loads, unloads)).await;
        let (on_disk, remembered) = desk.desired("m").await;
        assert_eq!(on_disk, remembered);
        assert_eq!(last_is_load(&mut inbox), Some(on_disk));
    }
}

#[bounded::test]
async fn a_full_queue_of_one_model_holds_up_no_other() {
    let desk = Desk::new();
    let mut full = desk.model("full", 1).await;
    let _inbox = desk.model("free", 100).await;
    desk.unload("full").await;
    {
        let mut waiting = pin!(desk.load("full"));
        // As far as it comes: its model is desired, and there is no room for its instruction.
        while desk.desired("full").await != (true, true) {
            assert!(waiting.as_mut().now_or_never().is_none());
        }
        let others = async {
            desk.load("free").await;
            desk.unload("free").await;
        };
        in_time(others).await;
        assert!(
            desk.desired_state
                .lock(&id("full"))
                .now_or_never()
                .is_none()
        );

        let room = async {
            while full
                .recv()
                .await
                .is_some_and(|command| !matches!(command, DriverCommand::Load(_)))
            {}
        };
        in_time(join(waiting, room)).await;
    }
    assert_eq!(desk.desired("full").await, (true, true));
}

#[bounded::test]
async fn a_switch_that_waits_for_the_queue_of_one_model_holds_up_no_other() {
    let desk = Desk::new();
    let _full = desk.model("new", 1).await;
    let _inbox = desk.model("old", 100).await;
    let moved = ended(desk.begin_switch("alias", "old").await);
    assert!(desk.desired_state.move_alias(&moved).await.is_ok());
    desk.unload("new").await;

    let mut waiting = pin!(desk.begin_switch("alias", "new"));
    while !desk.context.holders.is_held(&id("new")) {
        assert!(waiting.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    assert!(waiting.as_mut().now_or_never().is_none());
    in_time(desk.load("old")).await;
    in_time(desk.load("alias")).await;
}

#[bounded::test]
async fn switches_between_two_models_in_opposite_directions_both_come_to_their_end() {
    let desk = Desk::new();
    let _inboxes = (desk.model("a", 100).await, desk.model("b", 100).await);
    for (alias, model) in [("x", "a"), ("y", "b")] {
        let moved = ended(desk.begin_switch(alias, model).await);
        assert!(desk.desired_state.move_alias(&moved).await.is_ok());
    }
    let whole = async |alias, to| {
        let moved = ended(desk.begin_switch(alias, to).await);
        desk.desired_state.move_alias(&moved).await.is_ok()
    };
    let both = join(whole("x", "b"), whole("y", "a"));
    assert_eq!(in_time(both).await, (true, true));
    for (alias, to) in [("x", "b"), ("y", "a")] {
        assert_eq!(desk.context.catalog.resolve(&id(alias)), id(to));
    }
}

#[bounded::test]
async fn an_alias_that_moves_before_it_is_locked_leads_to_the_new_model() {
    let desk = Desk::new();
    let _inboxes = (desk.model("old", 100).await, desk.model("new", 100).await);
    let first = ended(desk.begin_switch("alias", "old").await);
    assert!(desk.desired_state.move_alias(&first).await.is_ok());
    let second = ended(desk.begin_switch("alias", "new").await);

    let held = desk.desired_state.lock(&id("old")).await;
    let mut moving = pin!(desk.desired_state.move_alias(&second));
    assert!(moving.as_mut().now_or_never().is_none());
    let mut loading = pin!(desk.load("alias"));
    assert!(loading.as_mut().now_or_never().is_none());
    drop(held);
    let (unload_old, ()) = in_time(join(moving, loading)).await;
    assert!(unload_old.expect("the alias moves"));
    assert_eq!(desk.desired("new").await, (true, true));
    assert_eq!(desk.desired("old").await, (false, false));
}

/// Whether a driver that does not turn has still to adapt to a change.
fn has_heard(inbox: &mut mpsc::Receiver<DriverCommand>) -> bool {
    let mut commands = std::iter::from_fn(|| inbox.try_recv().ok());
    commands.any(|command| matches!(command, DriverCommand::EntryChanged))
}

/// A switch of `alias` to `new`, which an update gave to `third` meanwhile.
async fn switch_from_third(desk: &Desk) -> Switch {
    let entry = desk.context.catalog.get(&id("third")).await;
    let entry = entry.expect("a read").expect("an entry");
    let moved = ended(desk.begin_switch("alias", "new").await);
    let change = EntryChange {
        etag: entry.etag.clone(),
        spec: None,
        aliases: Some(vec![id("alias")]),
    };
    let updated = desk.context.catalog.update(&entry.id, change, None).await;
    let updated = updated.expect("an update");
    let mut locked = desk.desired_state.lock(&entry.id).await;
    let before = Some(&updated.before);
    locked.announce(before, &updated.after).await;
    drop(locked);
    // What was announced is to be seen before the driver hears of it.
    assert_eq!(desk.known_aliases("third"), [id("alias")]);
    moved
}

#[bounded::test]
async fn an_alias_that_was_given_away_during_a_switch_is_taken_from_the_model_that_has_it() {
    let desk = Desk::new();
    let mut third = desk.model("third", 100).await;
    let mut new = desk.model("new", 100).await;
    let moved = switch_from_third(&desk).await;
    assert!(has_heard(&mut third));

    let held = desk.desired_state.lock(&id("third")).await;
    let mut moving = pin!(desk.desired_state.move_alias(&moved));
    assert!(moving.as_mut().now_or_never().is_none());
    drop(held);
    assert!(in_time(moving).await.is_ok());
    for (model, inbox, aliases) in [
        ("third", &mut third, vec![]),
        ("new", &mut new, vec![id("alias")]),
    ] {
        assert_eq!(desk.known_aliases(model), aliases);
        assert!(has_heard(inbox));
    }
}

#[bounded::test]
async fn a_switch_that_is_found_to_have_moved_its_alias_takes_it_from_the_model_that_had_it() {
    let desk = Desk::new();
    let mut third = desk.model("third", 100).await;
    let _new = desk.model("new", 100).await;
    let moved = switch_from_third(&desk).await;
    assert!(has_heard(&mut third));

    let to_move = Some(AliasMove { unload_old: false });
    let ended = desk.context.catalog.end_switch(&moved, to_move).await;
    assert!(ended.is_ok());
    let _ = desk.desired_state.recover_moved(&moved).await;
    assert_eq!(desk.known_aliases("third"), []);
    assert_eq!(desk.known_aliases("new"), [id("alias")]);
    assert!(has_heard(&mut third));
}

#[bounded::test]
async fn an_unload_ends_the_suspension_of_a_model_without_a_driver() {
    let desk = Desk::new();
    desk.register("m").await;
    let suspension = Some(Suspension {
        cause: SuspendCause::Evicted,
        message: "another model needed its memory".to_owned(),
    });
    let suspended = DeferredWrite::Suspended(suspension.clone());
    desk.context.catalog.defer_write(&id("m"), suspended);
    desk.register("n").await;
    let summaries = desk.context.catalog.summaries().await;
    desk.context.track_all(summaries.expect("a read"));
    let status = || desk.context.event_log.status(&id("m")).expect("tracked");
    assert_eq!(status().suspended, suspension);

    let locked = desk.desired_state.lock_at_once(&id("m")).await;
    let queued = locked.unload(NO_TIME).await.expect("a commit");
    assert!(queued.is_none(), "there is no driver");
    assert_eq!(status().suspended, None);
    // Comes after all that was to be written before.
    desk.register("o").await;
    let entry = desk.context.catalog.get(&id("m")).await.expect("a read");
    assert_eq!(entry.expect("an entry").suspended, None);
}

#[bounded::test]
async fn only_what_comes_at_once_does_not_wait_for_a_deletion() {
    let desk = Desk::new();
    let _inboxes = (desk.model("m", 100).await, desk.model("n", 100).await);
    let deletion = desk.desired_state.lock(&id("m")).await.begin_deletion();
    let mut waiting = pin!(desk.load("m"));
    assert!(waiting.as_mut().now_or_never().is_none());
    in_time(desk.load("n")).await;
    in_time(desk.unload("m")).await;
    let locked = desk.desired_state.lock_at_once(&id("m")).await;
    let entry = locked.entry().await.expect("a read").expect("an entry");
    let instruction = LoadInstruction::by_the_server(DEADLINE);
    let refused = locked.load_at_start(entry, instruction).await;
    assert!(
        matches!(refused, Err(NotQueued::Register(_))),
        "{refused:?}"
    );
    drop(deletion);
    in_time(waiting).await;
    assert_eq!(desk.desired("m").await, (true, true));
}

#[bounded::test]
async fn an_unload_ends_all_holds_and_what_the_start_would_do() {
    let desk = Desk::new();
    let _inbox = desk.model("m", 100).await;
    desk.desired_state.begin_reconcile([id("m")]);
    let holder = Holder::Session(SessionName::new("holder"));
    let locked = desk.desired_state.lock(&id("m")).await;
    assert!(locked.hold(holder.clone()));
    assert!(!locked.hold(holder));
    drop(locked);
    desk.unload("m").await;
    assert!(!desk.context.holders.is_held(&id("m")));
    let locked = desk.desired_state.lock(&id("m")).await;
    assert!(!locked.take_from_reconcile());
}
