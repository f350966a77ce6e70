//! Who may use a model's worker, and when.
//!
//! A [`Gate`] is open while its model is READY. What passes gets a [`Permit`] from the gate's [`Lane`]: at
//! most so many at a time run, at most so many wait, by priority and then first come, first served. Closing
//! the gate keeps newcomers out; cutting it off ends those inside too. A gate that is closed because it is
//! idle was idle at that moment: nobody is between the gate and the lane.

mod lane;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::Instant,
};

use super::{fatal_prompt::FatalPrompt, slots::Slot};
use crate::{
    model::{Failure, GenerationDefaults},
    worker::Client,
};

pub(super) use lane::{Crowd, Lane, LaneLimits};

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

/// The right to use a worker, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    lane: Arc<Lane>,
    defaults: Arc<GenerationDefaults>,
    cut: watch::Receiver<Option<Failure>>,
    queued: Duration,
    place: Place,
}

/// What a permit stands for.
#[derive(Debug)]
enum Place {
    /// A place at the engine.
    Engine { _slot: Slot<i32> },
    /// A place for a call that the engine has no part in.
    Aside { _place: OwnedSemaphorePermit },
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

    /// Keeps newcomers out if nobody is inside and nobody was for the time `idle`. Says whether it did.
    pub(super) fn close_if_idle(&self, idle: Duration) -> bool {
        let mut ways = self.ways();
        let closed = ways.open.as_ref().is_some_and(|lane| lane.close(idle));
        if closed {
            ways.open = None;
        }
        closed
    }

    /// When the last request left, or the gate was opened, if it is open and nobody is inside.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let ways = self.ways();
        ways.open.as_ref().and_then(|lane| lane.idle_since())
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

    /// Waits for the right to use the worker: of those that wait, the highest `priority` goes first. Safe
    /// to cancel: the place in the queue is given back.
    pub(super) async fn admit(&self, priority: i32) -> Result<Permit, Refusal> {
        let lane = self.way()?;
        let began = Instant::now();
        let mut cut = lane.cut.subscribe();
        let slot = match lane.slots.try_take() {
            Some(slot) => {
                lane.enter(Crowd::run)?;
                slot
            }
            None => {
                let place = lane.queue()?;
                let slot = tokio::select! {
                    biased;
                    failure = cut_off(&mut cut) => return Err(Refusal::CutOff(failure)),
                    slot = lane.slots.take(priority) => slot,
                };
                place.leave(Crowd::run);
                slot
            }
        };
        let place = Place::Engine { _slot: slot };
        Permit::new(lane, cut, began.elapsed(), place).checked()
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
        let place = Place::Aside { _place: place };
        Permit::new(lane, cut, began.elapsed(), place).checked()
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

// === impl Permit ===

impl Permit {
    fn new(
        lane: Arc<Lane>,
        cut: watch::Receiver<Option<Failure>>,
        queued: Duration,
        place: Place,
    ) -> Self {
        Self {
            defaults: lane.defaults.load_full(),
            lane,
            cut,
            queued,
            place,
        }
    }

    /// Calls to the worker.
    pub fn client(&self) -> Client {
        self.lane.client.clone()
    }

    /// A prompt that has ended a worker of this model: one as long is not to be sent to this one.
    pub fn fatal_prompt(&self) -> Option<FatalPrompt> {
        self.lane.fatal
    }

    /// What the spec says for requests that do not.
    pub fn defaults(&self) -> &GenerationDefaults {
        &self.defaults
    }

    /// How long the request waited.
    pub fn queued(&self) -> Duration {
        self.queued
    }

    /// Requests that run at the same time on this worker, at most.
    pub fn max_concurrency(&self) -> u32 {
        self.lane.crowd().limits.max_concurrency
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
        let aside = matches!(self.place, Place::Aside { .. });
        self.lane.crowd.send_modify(|crowd| {
            if aside {
                crowd.aside -= 1;
            } else {
                crowd.running -= 1;
            }
            crowd.leave();
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
