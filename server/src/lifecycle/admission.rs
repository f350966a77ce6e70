//! Who may use a model's worker, and when.
//!
//! A [`Gate`] is open while its model is READY. What passes gets a [`Permit`] from the gate's lane: at
//! most so many at a time run, at most so many wait, first come, first served. Closing the gate keeps
//! newcomers out; cutting it off ends those inside too.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};

use crate::{
    model::{Failure, GenerationDefaults},
    worker::Client,
};

/// Lets requests through to a worker, or not.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<Ways>);

/// The way in, while there is one, and the one that was open last: those on it are counted to the end.
#[derive(Debug, Default)]
struct Ways {
    open: Option<Arc<Lane>>,
    last: Weak<Lane>,
    /// Why the way was cut off, until its worker has gone.
    cut: Option<Failure>,
}

/// The way to one worker.
#[derive(Debug)]
pub(super) struct Lane {
    client: Client,
    defaults: GenerationDefaults,
    slots: Arc<Semaphore>,
    /// Places for calls that the engine has no part in.
    asides: Arc<Semaphore>,
    max_concurrency: u32,
    max_queue: u32,
    crowd: watch::Sender<Crowd>,
    cut: watch::Sender<Option<Failure>>,
}

/// Who is on a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Crowd {
    pub(super) running: u32,
    pub(super) waiting: u32,
    /// Calls that the engine has no part in.
    pub(super) aside: u32,
    /// When the first of those that run began, if any does.
    pub(super) busy_since: Option<Instant>,
}

/// The right to use a worker, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    lane: Arc<Lane>,
    cut: watch::Receiver<Option<Failure>>,
    queued: Duration,
    aside: bool,
    _place: OwnedSemaphorePermit,
}

/// A request that was not let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
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
struct Waiting<'a>(&'a Lane);

/// A place among the calls that the engine has no part in.
struct Aside<'a>(&'a Lane);

/// Calls that the engine has no part in, those that wait included.
const MAX_ASIDES: u32 = 256;

/// Calls at the same time that the engine has no part in. They are short, and further ones wait.
const ASIDES: usize = 8;

// === impl Gate ===

impl Gate {
    /// Opens the gate to `lane`.
    pub(super) fn open(&self, lane: Arc<Lane>) {
        let last = Arc::downgrade(&lane);
        *self.ways() = Ways {
            open: Some(lane),
            last,
            cut: None,
        };
    }

    /// Keeps newcomers out.
    pub(super) fn close(&self) {
        let mut ways = self.ways();
        ways.open = None;
        ways.cut = None;
    }

    /// Keeps newcomers out and tells them `failure`, until the gate is closed or opened.
    pub(super) fn cut_off(&self, failure: Failure) {
        let mut ways = self.ways();
        ways.open = None;
        ways.cut = Some(failure);
    }

    /// The way in.
    fn way(&self) -> Result<Arc<Lane>, Refusal> {
        let ways = self.ways();
        match (&ways.open, &ways.cut) {
            (Some(lane), _) => Ok(lane.clone()),
            (None, Some(failure)) => Err(Refusal::CutOff(failure.clone())),
            (None, None) => Err(Refusal::Closed),
        }
    }

    /// Waits for the right to use the worker. Safe to cancel: the place in the queue is given back.
    pub(super) async fn admit(&self) -> Result<Permit, Refusal> {
        let lane = self.way()?;
        let began = Instant::now();
        let mut cut = lane.cut.subscribe();
        let slot = match lane.slots.clone().try_acquire_owned() {
            Ok(slot) => {
                lane.crowd.send_modify(Crowd::run);
                slot
            }
            Err(_) => {
                let place = lane.queue()?;
                let slot = tokio::select! {
                    biased;
                    failure = cut_off(&mut cut) => return Err(Refusal::CutOff(failure)),
                    slot = lane.slots.clone().acquire_owned() => slot.map_err(|_| Refusal::Closed)?,
                };
                place.leave(Crowd::run);
                slot
            }
        };
        Permit {
            lane,
            cut,
            queued: began.elapsed(),
            aside: false,
            _place: slot,
        }
        .checked()
    }

    /// Waits for the right to call the worker for something that the engine has no part in. Requests
    /// that run do not stand against it. Safe to cancel.
    pub(super) async fn admit_aside(&self) -> Result<Permit, Refusal> {
        let lane = self.way()?;
        let began = Instant::now();
        let mut cut = lane.cut.subscribe();
        let counted = lane.step_aside()?;
        let place = tokio::select! {
            biased;
            failure = cut_off(&mut cut) => return Err(Refusal::CutOff(failure)),
            place = lane.asides.clone().acquire_owned() => place.map_err(|_| Refusal::Closed)?,
        };
        // From here on the permit counts.
        std::mem::forget(counted);
        Permit {
            lane,
            cut,
            queued: began.elapsed(),
            aside: true,
            _place: place,
        }
        .checked()
    }

    /// Who is inside, also behind a closed gate.
    pub(super) fn crowd(&self) -> Crowd {
        let last = self.ways().last.upgrade();
        last.map(|lane| lane.crowd()).unwrap_or_default()
    }

    fn ways(&self) -> MutexGuard<'_, Ways> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Crowd ===

impl Crowd {
    fn run(&mut self) {
        self.running += 1;
        self.busy_since.get_or_insert_with(Instant::now);
    }
}

// === impl Waiting ===

impl Waiting<'_> {
    /// Leaves the queue for where `enter` counts it, in one change: whoever waits for the lane to be
    /// empty sees the request in one place or the other.
    fn leave(self, enter: impl FnOnce(&mut Crowd)) {
        self.0.crowd.send_modify(|crowd| {
            crowd.waiting -= 1;
            enter(crowd);
        });
        // Counted out above; there is nothing in it to be dropped.
        std::mem::forget(self);
    }
}

// === impl Lane ===

impl Lane {
    /// A lane to `client` for `max_concurrency` requests at a time and `max_queue` that wait.
    pub(super) fn new(
        client: Client,
        defaults: GenerationDefaults,
        max_concurrency: u32,
        max_queue: u32,
    ) -> Self {
        Self {
            client,
            defaults,
            slots: Arc::new(Semaphore::new(max_concurrency as usize)),
            asides: Arc::new(Semaphore::new(ASIDES)),
            max_concurrency,
            max_queue,
            crowd: watch::Sender::default(),
            cut: watch::Sender::new(None),
        }
    }

    /// Ends all that run or wait, with `failure`. The first failure stays.
    pub(super) fn cut_off(&self, failure: Failure) {
        self.cut.send_if_modified(|cut| {
            let first = cut.is_none();
            cut.get_or_insert(failure);
            first
        });
    }

    /// Who is on the lane.
    pub(super) fn crowd(&self) -> Crowd {
        *self.crowd.borrow()
    }

    /// Waits until nobody runs or waits.
    pub(super) async fn empty(&self) {
        let mut crowd = self.crowd.subscribe();
        // The sender lives as long as this lane, so the wait cannot fail.
        let _ = crowd
            .wait_for(|crowd| crowd.running + crowd.waiting + crowd.aside == 0)
            .await;
    }

    fn queue(&self) -> Result<Waiting<'_>, Refusal> {
        let queued = self.crowd.send_if_modified(|crowd| {
            let room = crowd.waiting < self.max_queue;
            crowd.waiting += u32::from(room);
            room
        });
        if queued {
            Ok(Waiting(self))
        } else {
            Err(Refusal::QueueFull {
                limit: self.max_queue,
            })
        }
    }

    fn step_aside(&self) -> Result<Aside<'_>, Refusal> {
        let counted = self.crowd.send_if_modified(|crowd| {
            let room = crowd.aside < MAX_ASIDES;
            crowd.aside += u32::from(room);
            room
        });
        if counted {
            Ok(Aside(self))
        } else {
            Err(Refusal::QueueFull { limit: MAX_ASIDES })
        }
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        self.0.crowd.send_modify(|crowd| crowd.aside -= 1);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.crowd.send_modify(|crowd| crowd.waiting -= 1);
    }
}

// === impl Permit ===

impl Permit {
    /// Calls to the worker.
    pub fn client(&self) -> Client {
        self.lane.client.clone()
    }

    /// What the spec says for requests that do not.
    pub fn defaults(&self) -> &GenerationDefaults {
        &self.lane.defaults
    }

    /// How long the request waited.
    pub fn queued(&self) -> Duration {
        self.queued
    }

    /// Requests that run at the same time on this worker, at most.
    pub fn max_concurrency(&self) -> u32 {
        self.lane.max_concurrency
    }

    /// Waits until the request has to end, and gives the reason. Safe to cancel.
    pub async fn cut_off(&mut self) -> Failure {
        cut_off(&mut self.cut).await
    }

    /// Why the request has to end, if it has to.
    pub fn failure(&self) -> Option<Failure> {
        self.cut.borrow().clone()
    }

    fn checked(self) -> Result<Self, Refusal> {
        match self.failure() {
            Some(failure) => Err(Refusal::CutOff(failure)),
            None => Ok(self),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.lane.crowd.send_modify(|crowd| {
            if self.aside {
                crowd.aside -= 1;
                return;
            }
            crowd.running -= 1;
            if crowd.running == 0 {
                crowd.busy_since = None;
            }
        });
    }
}

async fn cut_off(cut: &mut watch::Receiver<Option<Failure>>) -> Failure {
    let failure = cut
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|cut| cut.clone());
    match failure {
        Some(failure) => failure,
        // The lane lives as long as its permits do.
        None => std::future::pending().await,
    }
}
