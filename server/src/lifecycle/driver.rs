//! The one task that changes a model's state.
//!
//! It turns commands, reports of the worker and deadlines into events of the state machine, performs the
//! actions that come of them, and publishes every transition. Nothing in it waits for anything else, so
//! a command is always answered at once.

mod answer;
mod perform;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use hangar_client::v1::ModelMetadata;
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, mpsc},
    time::Instant,
};

use tracing::Span;

use super::{
    admission::Lane,
    fleet::Context,
    model::Model,
    observer::Observer,
    run::{Report, Run},
    timers::{Timer, Timers},
};
use crate::{
    model::{
        Failure, LoadId, Memory, Metadata, ProgressMeter, Reason, Spec, Stage, Status,
        state::{Event, State},
    },
    wire,
    worker::Client,
};
use answer::Waiters;

pub(super) use answer::{Command, LoadCommand, UnloadCommand};
pub use answer::{LoadTicket, UnloadReport, Verification};

/// Drives one model.
pub(super) struct Driver {
    context: Arc<Context>,
    model: Arc<Model>,
    inbox: mpsc::Receiver<Command>,
    state: State,
    status: Status,
    spec: Arc<Spec>,
    slot: Slot,
    run: Option<Run>,
    observer: Option<Observer>,
    client: Option<Client>,
    /// Requests that the engine can run at the same time.
    engine_concurrency: u32,
    lane: Option<Arc<Lane>>,
    meter: ProgressMeter,
    timers: Timers,
    waiters: Waiters,
    load: LoadClock,
    entered: Instant,
    /// Covers the load that is under way, from the call that asked for it to its end.
    load_span: Span,
    drain_timeout: Duration,
    stopping: Stopping,
}

/// A place among the loads that run at the same time.
enum Slot {
    None,
    Waiting(SlotFuture),
    Held { _permit: OwnedSemaphorePermit },
}

type SlotFuture = futures::future::BoxFuture<'static, Result<OwnedSemaphorePermit, AcquireError>>;

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
const LOADING_LOOKS: Duration = Duration::from_millis(100);

/// Between two looks at a worker that serves, at most.
const SERVING_LOOKS: Duration = Duration::from_secs(1);

// === impl Driver ===

impl Driver {
    pub(super) fn new(
        context: Arc<Context>,
        model: Arc<Model>,
        inbox: mpsc::Receiver<Command>,
    ) -> Self {
        let status = Status::clone(&model.status());
        let spec = model.facts().entry.spec.clone();
        let now = Instant::now();
        Self {
            context,
            model,
            inbox,
            state: State::Unloaded,
            status,
            spec,
            slot: Slot::None,
            run: None,
            observer: None,
            client: None,
            engine_concurrency: 1,
            lane: None,
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
        }
    }

    /// Drives until the fleet retires it.
    pub(super) async fn drive(mut self) {
        let retired = self.context.retired.clone();
        let mut looks = tokio::time::interval(LOADING_LOOKS);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut pace = LOADING_LOOKS;
        loop {
            let wanted = self.pace();
            if wanted != pace {
                pace = wanted;
                looks = tokio::time::interval_at(Instant::now() + pace, pace);
                looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            }
            let draining = self.state.stage() == Stage::Draining;
            tokio::select! {
                () = retired.cancelled() => return self.retire().await,
                Some(command) = self.inbox.recv() => self.obey(command),
                Some(report) = next_report(&mut self.run) => self.hear(report),
                Ok(permit) = granted(&mut self.slot) => {
                    self.slot = Slot::Held { _permit: permit };
                    self.apply(Event::SlotGranted);
                }
                timer = self.timers.next() => self.expire(timer),
                () = emptied(self.lane.as_deref()), if draining => self.apply(Event::Drained),
                _ = looks.tick(), if self.observer.is_some() => self.look(),
            }
        }
    }

    /// Leaves no worker behind, not even one that an unload could not reap in time.
    async fn retire(mut self) {
        let Some(run) = &mut self.run else { return };
        run.kill();
        let gone = async { while run.next().await.is_some() {} };
        if tokio::time::timeout(self.context.limits.kill_timeout, gone)
            .await
            .is_err()
        {
            tracing::error!(model = %self.model.id(), "the worker cannot be reaped and is left to the system");
        }
    }

    fn pace(&self) -> Duration {
        if self.state.stage().is_loading() {
            LOADING_LOOKS
        } else {
            SERVING_LOOKS.min(self.context.limits.hang_timeout / 4)
        }
    }

    fn hear(&mut self, report: Report) {
        match report {
            Report::Spawned { pid, pulse } => {
                self.observer = Some(Observer::new(pid, pulse));
                self.status.worker_pid = Some(pid);
                self.publish_progress();
            }
            Report::Inspected { inspection, client } => {
                if let Some(observer) = &mut self.observer {
                    observer.begin_load(&inspection);
                }
                self.client = Some(client);
                self.engine_concurrency = inspection.max_concurrency.max(1);
                let refusal = self.context.memory.refuse(inspection.need_host_bytes);
                self.learn(inspection.metadata.unwrap_or_default());
                self.apply(refusal.map_or(Event::Inspected, Event::Fault));
            }
            Report::EngineBuilt(metadata) => {
                self.learn(*metadata);
                self.apply(Event::EngineBuilt);
            }
            Report::Warmed => {
                self.status.memory = self.observer.as_mut().map(|observer| observer.memory_now());
                self.apply(Event::Warmed);
            }
            Report::Fault(failure) => self.apply(Event::Fault(failure)),
            Report::Exited(failure) => {
                self.run = None;
                self.apply(Event::Exited {
                    failure,
                    restart: LoadId::fresh(),
                });
            }
        }
    }

    fn learn(&self, metadata: ModelMetadata) {
        let learned = wire::metadata(metadata);
        self.model.learn(|facts| {
            let load_duration = facts.metadata.load_duration;
            let loaded = facts.metadata.loaded;
            facts.metadata = Metadata {
                load_duration,
                loaded,
                ..learned.clone()
            };
        });
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
                self.apply(Event::Unreaped);
                self.answer_unreaped();
            }
            Timer::Stable => self.apply(Event::Stable),
        }
    }

    /// Looks at the worker: progress and stalls of a load, hangs of an engine, memory.
    fn look(&mut self) {
        let Some(observer) = &mut self.observer else {
            return;
        };
        observer.look();
        self.status.memory = Some(observer.memory());
        let stage = self.state.stage();
        let crowd = self
            .lane
            .as_ref()
            .map(|lane| lane.crowd())
            .unwrap_or_default();
        let fault = match stage {
            Stage::Starting | Stage::Loading | Stage::Warming => {
                observer.stalled(&self.context.limits)
            }
            Stage::Ready | Stage::Draining => observer.hung(crowd, &self.context.limits),
            _ => None,
        };
        let progress = match (stage, observer.bytes_read()) {
            (Stage::Loading, Some((bytes, elapsed))) => self.meter.observe(bytes, elapsed),
            _ => None,
        };
        match progress {
            Some(_) => self.publish_progress(),
            None => self.note(),
        }
        if let Some(failure) = fault {
            self.apply(Event::Fault(failure));
        }
    }
}

async fn next_report(run: &mut Option<Run>) -> Option<Report> {
    match run {
        Some(run) => run.next().await,
        None => std::future::pending().await,
    }
}

async fn granted(slot: &mut Slot) -> Result<OwnedSemaphorePermit, AcquireError> {
    match slot {
        Slot::Waiting(waiting) => waiting.await,
        Slot::None | Slot::Held { .. } => std::future::pending().await,
    }
}

async fn emptied(lane: Option<&Lane>) {
    if let Some(lane) = lane {
        lane.empty().await;
    }
}
