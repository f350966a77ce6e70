//! The one task that changes a model's state.
//!
//! It turns commands, reports of the worker and deadlines into events of the state machine, performs the
//! actions that come of them, and publishes every transition. Nothing in it waits for anything else, so
//! a command is always answered at once.
//!
//! Here is its loop. What it has is in `resources`, by where the model stands, `published_status`, `timers` and `waiters`, which do
//! not know it. The other modules below add to the [`ModelDriver`] what it does: `actions` (events, transitions and what
//! comes of them), `commands`, `publish`, `placement`, `download`, `spec`, `worker`, `memory`, `observation`, `learning`,
//! `suspension` and `recovery` (from its own panics).

mod actions;
mod commands;
mod download;
mod learning;
mod memory;
mod observation;
mod placement;
mod publish;
mod published_status;
mod recovery;
mod resources;
mod spec;
mod suspension;
mod timers;
mod waiters;
mod worker;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};
use tracing::Span;

use self::{
    published_status::PublishedStatus,
    resources::DriverResources,
    timers::{Timer, Timers},
    waiters::Waiters,
};
use crate::{
    catalog::CatalogEntry,
    download::RepositorySnapshot,
    failpoint,
    lifecycle::{
        command::DriverCommand, context::Context, fatal_prompt::PromptHistory,
        tracked_model::TrackedModel,
    },
    model::{
        Failure, Reason, Spec, StateKind, Status,
        state::{Event, State},
    },
    status::Publisher,
};

/// Drives one model.
struct ModelDriver {
    context: Arc<Context>,
    model: Arc<TrackedModel>,
    inbox: mpsc::Receiver<DriverCommand>,
    state: State,
    resources: DriverResources,
    published: PublishedStatus,
    load: LoadContext,
    timers: Timers,
    waiters: Waiters,
    /// Of the unload that is under way, or comes next.
    drain_timeout: Duration,
    /// Times that this panicked since a load was asked for.
    panics: u32,
}

/// What belongs to the load that is under way, or was last.
struct LoadContext {
    began: Instant,
    began_at: SystemTime,
    timeout: Duration,
    /// The server restarts the model: each attempt has the whole time.
    restart: bool,
    /// Covers it, from the call that asked for it to its end.
    span: Span,
    /// Whether others may be evicted for it.
    may_evict: bool,
    /// What the engine was built from, or will be.
    spec: Arc<Spec>,
    /// What the load that was begun last, or comes next, was asked with.
    asked: Arc<Spec>,
    /// What was inspected for the first attempt, which is made with this and nothing newer.
    inspected: Option<Arc<Spec>>,
    /// What was downloaded for it.
    snapshot: Option<RepositorySnapshot>,
    /// What happened to the prompts of engines that were built from the spec.
    prompts: PromptHistory,
}

/// Commands that wait for a driver.
const COMMAND_QUEUE: usize = 64;

/// Between two looks at a worker that loads.
const LOADING_INTERVAL: Duration = Duration::from_millis(100);

/// Between two looks at a worker that serves, at most.
const SERVING_INTERVAL: Duration = Duration::from_secs(1);

/// The model of `entry`, with a driver. `None` when the fleet is closed.
pub(super) fn track(context: &Arc<Context>, entry: &CatalogEntry) -> Option<Arc<TrackedModel>> {
    context.track(&entry.id, || {
        let (commands, inbox) = mpsc::channel(COMMAND_QUEUE);
        let publisher = Publisher::new(
            context.event_log.clone(),
            Status {
                suspended: entry.suspended.clone(),
                ..Status::unloaded(entry.id.clone())
            },
        );
        let status = publisher.cell().clone();
        let metrics = context.metrics.clone();
        let model = Arc::new(TrackedModel::new(entry.clone(), commands, metrics, status));
        let driver = ModelDriver::new(context.clone(), model.clone(), inbox, publisher);
        let stuck = model.clone();
        context
            .tasks
            .of_model("driver", driver.drive(), move || stuck.declare_stuck());
        model
    })
}

impl ModelDriver {
    fn new(
        context: Arc<Context>,
        model: Arc<TrackedModel>,
        inbox: mpsc::Receiver<DriverCommand>,
        publisher: Publisher,
    ) -> Self {
        let facts = model.facts();
        let kept = facts.learned.prompts.as_ref();
        let spec = facts.entry.spec.clone();
        let prompts = PromptHistory::restore(kept, &spec);
        let load = LoadContext::new(spec, prompts);
        Self {
            context,
            model,
            inbox,
            state: State::Unloaded,
            resources: DriverResources::idle(),
            published: PublishedStatus::new(publisher),
            load,
            timers: Timers::default(),
            waiters: Waiters::default(),
            drain_timeout: Duration::ZERO,
            panics: 0,
        }
    }

    /// Turns until the fleet ends all drivers, or the model is deleted.
    async fn run_loop(&mut self) {
        let ended = self.context.end_drivers.clone();
        let mut period = LOADING_INTERVAL;
        let mut observations = ticks(Instant::now(), period);
        loop {
            let wanted = self.observation_interval();
            if wanted != period {
                period = wanted;
                observations = ticks(Instant::now() + period, period);
            }
            if self.model.was_declared_stuck() {
                self.recover();
            }
            if matches!(self.resources, DriverResources::Ended) {
                return;
            }
            let draining = self.state.kind() == StateKind::Draining;
            let watched = self.resources.monitor().is_some();
            tokio::select! {
                () = ended.cancelled() => return self.reap_worker().await,
                Some(command) = self.inbox.recv() => self.handle_command(command),
                () = self.model.released() => self.unload_if_unneeded(),
                event = self.resources.next(draining) => self.handle_event(event),
                timer = self.timers.next() => self.expire(timer),
                _ = observations.tick(), if watched => self.observe(),
                never = failpoint::meets("driver", Some(self.model.id().as_str())) => match never {},
            }
        }
    }

    /// Leaves no worker behind, not even one that an unload could not reap in time.
    async fn reap_worker(&mut self) {
        let worker = self.resources.worker_mut();
        let Some(task) = worker.and_then(|worker| worker.task.as_mut()) else {
            return;
        };
        task.kill();
        let gone = async { while task.next().await.is_some() {} };
        if tokio::time::timeout(self.context.limits.kill_timeout, gone)
            .await
            .is_err()
        {
            tracing::error!(model = %self.model.id(), "the worker cannot be reaped and is left to the system");
        }
    }

    fn observation_interval(&self) -> Duration {
        if self.state.kind().is_loading() {
            LOADING_INTERVAL
        } else {
            SERVING_INTERVAL.min(self.context.limits.hang_timeout / 4)
        }
    }

    fn expire(&mut self, timer: Timer) {
        match timer {
            Timer::Load => {
                let limit = self.load.timeout.as_secs_f64();
                let message = format!(
                    "the load did not end within {limit:.1} s, while the model was {}; load again with a longer \
                     timeout",
                    self.state.kind().name().to_uppercase()
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
                let worker = self.resources.worker();
                if let Some(reservation) = worker.and_then(|worker| worker.memory.reservation()) {
                    reservation.mark_stuck();
                }
                self.apply(Event::Unreaped);
                self.answer_unreaped();
            }
            Timer::Stable => self.apply(Event::Stable),
        }
    }
}

impl LoadContext {
    fn new(spec: Arc<Spec>, prompts: PromptHistory) -> Self {
        Self {
            began: Instant::now(),
            began_at: SystemTime::now(),
            timeout: Duration::ZERO,
            restart: false,
            span: Span::none(),
            may_evict: false,
            asked: spec.clone(),
            spec,
            inspected: None,
            snapshot: None,
            prompts,
        }
    }

    /// The clock of another load begins now.
    fn begin(&mut self, timeout: Duration, span: Span) {
        self.began = Instant::now();
        self.began_at = SystemTime::now();
        self.timeout = timeout;
        self.restart = false;
        self.span = span;
    }

    /// The server begins it anew, after a worker that served.
    fn begin_restart(&mut self, now: SystemTime) {
        self.began = Instant::now();
        self.began_at = now;
        self.restart = true;
    }
}

fn ticks(first: Instant, period: Duration) -> Interval {
    let mut ticks = interval_at(first, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
