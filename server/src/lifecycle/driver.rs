//! The one task that changes a model's state.
//!
//! It turns commands, reports of the worker and deadlines into events of the state machine, performs the
//! actions that come of them, and publishes every transition. Nothing in it waits for anything else, so
//! a command is always answered at once.

mod actions;
mod commands;
mod download;
mod memory;
mod observation;
mod placement;
mod recovery;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::future::BoxFuture;
use tokio::{sync::mpsc, time::Instant};

use tracing::Span;

use super::{
    admission::AdmissionQueue,
    devices::PendingPlacement,
    fatal_prompt::PromptHistory,
    files::FileWatch,
    fleet::Context,
    load_slots::LoadSlot,
    memory::Reservation,
    model::Model,
    release::Released,
    timers::{Timer, Timers},
    worker_monitor::WorkerMonitor,
    worker_session::{Report, WorkerSession},
};
use crate::{
    catalog::Attempt,
    download::Snapshot,
    failpoint,
    model::{
        DeviceWish, Failure, LoadId, Memory, ProgressMeter, Reason, Spec, Stage,
        state::{Event, State},
    },
    status::Publisher,
    worker::{Client, Inspection},
};
use commands::Waiters;
use download::Download;
use placement::{OnGpu, Placement};

pub(super) use commands::{Command, EvictCommand, LoadCommand, UnloadCommand};
pub use commands::{LoadTicket, UnloadReport, Verification};

/// Drives one model.
pub(super) struct Driver {
    context: Arc<Context>,
    model: Arc<Model>,
    inbox: mpsc::Receiver<Command>,
    state: State,
    publisher: Publisher,
    /// What the engine was built from, or will be.
    spec: Arc<Spec>,
    placement: PlacementState,
    /// The GPU that the model is on, or was on last; `None`: the CPU.
    on_gpu: Option<OnGpu>,
    /// A look at the GPU after its worker has gone.
    releasing: Option<BoxFuture<'static, Released>>,
    /// What the last unload left behind.
    leftover: Option<Failure>,
    /// Whether others may be evicted for the load that is under way.
    may_evict: bool,
    inspection: Option<Box<Inspection>>,
    admission: Option<BoxFuture<'static, Result<Reservation, Failure>>>,
    reservation: Option<Reservation>,
    /// The most that the worker was seen to hold.
    peak: Memory,
    prompts: PromptHistory,
    /// Whether a pace was seen that is not on disk.
    pace_is_new: bool,
    /// The attempt that is on disk.
    attempt: Option<Attempt>,
    download: Option<Download>,
    /// What was downloaded for the last load.
    snapshot: Option<Snapshot>,
    session: Option<WorkerSession>,
    monitor: Option<WorkerMonitor>,
    client: Option<Client>,
    /// On the model's files, while it serves.
    files: FileWatch,
    /// Requests that the engine can run at the same time.
    engine_concurrency: u32,
    queue: Option<Arc<AdmissionQueue>>,
    meter: ProgressMeter,
    timers: Timers,
    waiters: Waiters,
    load: LoadClock,
    entered: Instant,
    /// Covers the load that is under way, from the call that asked for it to its end.
    load_span: Span,
    drain_timeout: Duration,
    stopping: Stopping,
    /// The model is being deleted: the driver ends.
    ending: bool,
    /// Times that this panicked since a load was asked for.
    panics: u32,
}

/// A place among the loads that run at the same time.
enum PlacementState {
    None,
    /// For one on the CPU.
    Waiting {
        slot: BoxFuture<'static, LoadSlot>,
        /// What the spec said of the device.
        wish: Option<DeviceWish>,
    },
    /// The device is still to be chosen, or its queue is waited in.
    Seeking(BoxFuture<'static, Result<Placement, Failure>>),
    Held {
        _slot: LoadSlot,
        /// Until the model has a reservation.
        pending: Option<PendingPlacement>,
    },
}

/// The time of the load that is under way.
#[derive(Clone, Copy, Debug)]
struct LoadClock {
    began: Instant,
    began_at: SystemTime,
    timeout: Duration,
    /// The server restarts the model: each attempt has the whole time.
    restart: bool,
}

/// What is known of the stop that is under way.
#[derive(Clone, Copy, Debug, Default)]
struct Stopping {
    began: Option<Instant>,
    held: Memory,
    killed: bool,
}

/// Between two looks at a worker that loads.
const LOADING_INTERVAL: Duration = Duration::from_millis(100);

/// Between two looks at a worker that serves, at most.
const SERVING_INTERVAL: Duration = Duration::from_secs(1);

// === impl Driver ===

impl Driver {
    pub(super) fn new(
        context: Arc<Context>,
        model: Arc<Model>,
        inbox: mpsc::Receiver<Command>,
        publisher: Publisher,
    ) -> Self {
        let spec = model.facts().entry.spec.clone();
        let now = Instant::now();
        Self {
            context,
            model,
            inbox,
            state: State::Unloaded,
            publisher,
            spec,
            placement: PlacementState::None,
            on_gpu: None,
            releasing: None,
            leftover: None,
            may_evict: false,
            inspection: None,
            admission: None,
            reservation: None,
            peak: Memory::default(),
            prompts: PromptHistory::default(),
            pace_is_new: false,
            attempt: None,
            download: None,
            snapshot: None,
            session: None,
            monitor: None,
            client: None,
            files: FileWatch::default(),
            engine_concurrency: 1,
            queue: None,
            meter: ProgressMeter::new(),
            timers: Timers::default(),
            waiters: Waiters::default(),
            load: LoadClock {
                began: now,
                began_at: SystemTime::now(),
                timeout: Duration::ZERO,
                restart: false,
            },
            entered: now,
            load_span: Span::none(),
            drain_timeout: Duration::ZERO,
            stopping: Stopping::default(),
            ending: false,
            panics: 0,
        }
    }

    /// Turns until the fleet retires it, or its model is deleted.
    async fn run_loop(&mut self) {
        let ended = self.context.end_drivers.clone();
        let mut observations = tokio::time::interval(LOADING_INTERVAL);
        observations.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut period = LOADING_INTERVAL;
        loop {
            let wanted = self.observation_interval();
            if wanted != period {
                period = wanted;
                observations = tokio::time::interval_at(Instant::now() + period, period);
                observations.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            }
            if self.ending {
                return;
            }
            let draining = self.state.stage() == Stage::Draining;
            tokio::select! {
                () = ended.cancelled() => return self.reap_worker().await,
                Some(command) = self.inbox.recv() => self.handle_command(command),
                Some(report) = next_report(&mut self.session) => self.handle_report(report),
                event = download::next(&mut self.download) => self.handle_download_event(event),
                placement = placement::granted(&mut self.placement) => self.placement_granted(placement),
                released = placement::released(&mut self.releasing) => self.device_released(released),
                decision = admitted(&mut self.admission) => self.memory_decided(decision),
                seen = self.files.seen() => self.files_seen(seen),
                timer = self.timers.next() => self.expire(timer),
                () = emptied(self.queue.as_deref()), if draining => self.apply(Event::Drained),
                _ = observations.tick(), if self.monitor.is_some() => self.observe(),
                never = failpoint::meets("driver", Some(self.model.id().as_str())) => match never {},
            }
        }
    }

    /// Leaves no worker behind, not even one that an unload could not reap in time.
    async fn reap_worker(&mut self) {
        let Some(session) = &mut self.session else {
            return;
        };
        session.kill();
        let gone = async { while session.next().await.is_some() {} };
        if tokio::time::timeout(self.context.limits.kill_timeout, gone)
            .await
            .is_err()
        {
            tracing::error!(model = %self.model.id(), "the worker cannot be reaped and is left to the system");
        }
    }

    fn observation_interval(&self) -> Duration {
        if self.state.stage().is_loading() {
            LOADING_INTERVAL
        } else {
            SERVING_INTERVAL.min(self.context.limits.hang_timeout / 4)
        }
    }

    fn handle_report(&mut self, report: Report) {
        match report {
            Report::Files(files) => self.model.files.store(Some(Arc::new(files))),
            Report::Spawned { pid, heartbeat } => {
                let device = self.on_gpu.as_ref().map(|on| {
                    let system = self.context.devices.system().clone();
                    (system, on.gpu.uuid.clone())
                });
                self.monitor = Some(WorkerMonitor::new(pid, heartbeat, device));
                self.publisher.edit().worker_pid = Some(pid);
                self.publish_progress();
            }
            Report::Inspected { inspection, client } => {
                self.client = Some(*client);
                self.engine_concurrency = inspection.max_concurrency;
                self.learn(inspection.metadata.clone());
                self.request_memory(inspection);
            }
            Report::EngineBuilt(metadata) => {
                self.learn(*metadata);
                self.apply(Event::EngineBuilt);
            }
            Report::Warmed => {
                if let Some(monitor) = &mut self.monitor {
                    let memory = monitor.memory_now();
                    self.record_memory(memory);
                }
                self.record_device_use();
                if let Some(memory) = self.publisher.draft().memory {
                    self.record_memory(memory);
                }
                self.settle();
                self.apply(Event::Warmed);
            }
            Report::Fault(failure) => self.fail(failure),
            Report::Exited(failure) => {
                self.session = None;
                self.record_prompts(&failure);
                self.apply(Event::Exited {
                    failure,
                    restart: LoadId::fresh(),
                });
            }
        }
    }

    fn expire(&mut self, timer: Timer) {
        match timer {
            Timer::Load => {
                let limit = self.load.timeout.as_secs_f64();
                let message = format!(
                    "the load did not end within {limit:.1} s, while the model was {}; load again with a longer \
                     timeout",
                    self.state.stage().name().to_uppercase()
                );
                self.apply(Event::LoadExpired(Failure::new(
                    Reason::LoadTimeout,
                    message,
                )));
            }
            Timer::Retry => self.apply(Event::RetryDue),
            Timer::Drain => self.apply(Event::DrainExpired),
            Timer::Stop => {
                tracing::warn!(model = %self.model.id(), "the worker does not exit; killing it");
                self.kill();
            }
            Timer::Kill => {
                if let Some(reservation) = &self.reservation {
                    reservation.mark_stuck();
                }
                self.apply(Event::Unreaped);
                self.answer_unreaped();
            }
            Timer::Stable => self.apply(Event::Stable),
        }
    }
}

async fn next_report(session: &mut Option<WorkerSession>) -> Option<Report> {
    match session {
        Some(session) => session.next().await,
        None => std::future::pending().await,
    }
}

async fn admitted(
    admission: &mut Option<BoxFuture<'static, Result<Reservation, Failure>>>,
) -> Result<Reservation, Failure> {
    match admission {
        Some(admission) => admission.await,
        None => std::future::pending().await,
    }
}

async fn emptied(queue: Option<&AdmissionQueue>) {
    if let Some(queue) = queue {
        queue.empty().await;
    }
}
