//! The way to one worker: who runs, who waits, and how many may.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

use crate::{
    lifecycle::slots::Slots,
    model::{Failure, FatalPrompt, GenerationDefaults},
    worker::WorkerClient,
};

/// The way to one worker.
#[derive(Debug)]
pub(in crate::lifecycle) struct AdmissionQueue {
    pub(super) client: WorkerClient,
    pub(super) fatal: Option<FatalPrompt>,
    pub(super) defaults: ArcSwap<GenerationDefaults>,
    pub(super) slots: Arc<Slots<i32>>,
    /// Places for calls that the engine has no part in.
    pub(super) no_engine_slots: Arc<Semaphore>,
    opened: Instant,
    pub(super) occupancy: watch::Sender<Occupancy>,
    pub(super) cut: watch::Sender<Option<Failure>>,
}

/// Who is on a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::lifecycle) struct Occupancy {
    pub(in crate::lifecycle) running: u32,
    pub(in crate::lifecycle) waiting: u32,
    /// Calls that the engine has no part in.
    pub(in crate::lifecycle) without_engine: u32,
    /// When the first of those that run began, if any does.
    pub(in crate::lifecycle) busy_since: Option<Instant>,
    /// When the last of them left, if any was there.
    last_exit: Option<Instant>,
    /// Nobody is let in any more.
    closed: bool,
    pub(super) limits: AdmissionLimits,
}

/// How many may be on a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::lifecycle) struct AdmissionLimits {
    /// Requests that run at the same time.
    pub(in crate::lifecycle) max_concurrency: u32,
    /// Requests that wait.
    pub(in crate::lifecycle) max_queue: u32,
}

/// A request that was not let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::lifecycle) enum NotAdmitted {
    /// The gate is closed: the model is not READY.
    Closed,
    /// As many wait as may.
    QueueFull {
        /// How many that is.
        limit: u32,
    },
    /// The worker went while the request waited.
    CutOff(Failure),
}

/// A place in the queue.
pub(super) struct WaitingGuard<'a>(&'a AdmissionQueue);

/// A slot among the calls that the engine has no part in.
pub(super) struct NoEngineGuard<'a>(&'a AdmissionQueue);

/// Calls that the engine has no part in, those that wait included.
const MAX_WITHOUT_ENGINE: u32 = 256;

/// Calls at the same time that the engine has no part in. They are short, and further ones wait.
const NO_ENGINE_CONCURRENCY: usize = 8;

impl Occupancy {
    pub(super) fn run(&mut self) {
        self.running += 1;
        self.busy_since.get_or_insert_with(Instant::now);
    }

    /// Whether nobody is there.
    pub(super) fn is_empty(&self) -> bool {
        self.running + self.waiting + self.without_engine == 0
    }

    /// Somebody left.
    pub(super) fn exit(&mut self) {
        if self.running == 0 {
            self.busy_since = None;
        }
        self.last_exit = Some(Instant::now());
    }
}

impl WaitingGuard<'_> {
    /// Leaves the queue for where `enter` counts it, in one change: whoever waits for the queue to be
    /// empty sees the request in one place or the other.
    pub(super) fn leave(self, enter: impl FnOnce(&mut Occupancy)) {
        self.0.occupancy.send_modify(|occupancy| {
            occupancy.waiting -= 1;
            enter(occupancy);
        });
        // Counted out above; there is nothing in it to be dropped.
        std::mem::forget(self);
    }
}

impl AdmissionQueue {
    /// A queue to `client` within `limits`, for prompts that are shorter than a `fatal` one.
    pub(in crate::lifecycle) fn new(
        client: WorkerClient,
        defaults: GenerationDefaults,
        limits: AdmissionLimits,
        fatal: Option<FatalPrompt>,
    ) -> Self {
        let occupancy = Occupancy {
            limits,
            ..Occupancy::default()
        };
        Self {
            client,
            fatal,
            defaults: ArcSwap::from_pointee(defaults),
            slots: Slots::new(limits.max_concurrency as usize),
            no_engine_slots: Arc::new(Semaphore::new(NO_ENGINE_CONCURRENCY)),
            opened: Instant::now(),
            occupancy: watch::Sender::new(occupancy),
            cut: watch::Sender::new(None),
        }
    }

    /// From the next request on these hold.
    pub(in crate::lifecycle) fn adjust(
        &self,
        defaults: GenerationDefaults,
        limits: AdmissionLimits,
    ) {
        self.defaults.store(Arc::new(defaults));
        self.occupancy
            .send_modify(|occupancy| occupancy.limits = limits);
        self.slots.resize(limits.max_concurrency as usize);
    }

    /// Ends all that run or wait, with `failure`. The first failure stays.
    pub(in crate::lifecycle) fn cut_off(&self, failure: Failure) {
        self.cut.send_if_modified(|cut| {
            let first = cut.is_none();
            cut.get_or_insert(failure);
            first
        });
    }

    /// Who is on the queue.
    pub(in crate::lifecycle) fn occupancy(&self) -> Occupancy {
        *self.occupancy.borrow()
    }

    /// Waits until nobody runs or waits.
    pub(in crate::lifecycle) async fn empty(&self) {
        let mut occupancy = self.occupancy.subscribe();
        // The sender lives as long as this queue, so the wait cannot fail.
        let _ = occupancy.wait_for(Occupancy::is_empty).await;
    }

    pub(super) fn idle_since(&self) -> Option<Instant> {
        let occupancy = self.occupancy();
        occupancy
            .is_empty()
            .then(|| occupancy.last_exit.unwrap_or(self.opened))
    }

    /// Lets nobody in any more if nobody is there and nobody was for the time `idle`.
    pub(super) fn close(&self, idle: Duration) -> bool {
        self.occupancy.send_if_modified(|occupancy| {
            let last_exit = occupancy.last_exit.unwrap_or(self.opened);
            let close = occupancy.is_empty() && last_exit.elapsed() >= idle;
            occupancy.closed |= close;
            close
        })
    }

    /// Counts somebody in.
    pub(super) fn enter(&self, count: impl FnOnce(&mut Occupancy)) -> Result<(), NotAdmitted> {
        let entered = self.occupancy.send_if_modified(|occupancy| {
            if !occupancy.closed {
                count(occupancy);
            }
            !occupancy.closed
        });
        if entered {
            Ok(())
        } else {
            Err(NotAdmitted::Closed)
        }
    }

    pub(super) fn enqueue(&self) -> Result<WaitingGuard<'_>, NotAdmitted> {
        let mut full = None;
        self.enter(|occupancy| {
            let limit = occupancy.limits.max_queue;
            if occupancy.waiting < limit {
                occupancy.waiting += 1;
            } else {
                full = Some(limit);
            }
        })?;
        match full {
            None => Ok(WaitingGuard(self)),
            Some(limit) => Err(NotAdmitted::QueueFull { limit }),
        }
    }

    pub(super) fn enter_without_engine(&self) -> Result<NoEngineGuard<'_>, NotAdmitted> {
        let mut full = false;
        self.enter(|occupancy| {
            full = occupancy.without_engine >= MAX_WITHOUT_ENGINE;
            occupancy.without_engine += u32::from(!full);
        })?;
        if full {
            Err(NotAdmitted::QueueFull {
                limit: MAX_WITHOUT_ENGINE,
            })
        } else {
            Ok(NoEngineGuard(self))
        }
    }
}

impl Drop for NoEngineGuard<'_> {
    fn drop(&mut self) {
        self.0.occupancy.send_modify(|occupancy| {
            occupancy.without_engine -= 1;
            occupancy.exit();
        });
    }
}

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.0.occupancy.send_modify(|occupancy| {
            occupancy.waiting -= 1;
            occupancy.exit();
        });
    }
}
