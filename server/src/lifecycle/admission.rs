//! Who may use a model's worker, and when.
//!
//! A [`Gate`] is open while its model is READY. What passes gets a [`Permit`] from the gate's [`AdmissionQueue`]: at
//! most so many at a time run, at most so many wait, by priority and then first come, first served. Closing
//! the gate keeps newcomers out; cutting it off ends those inside too. A gate that is closed because it is
//! idle was idle at that moment: nobody is between the gate and the queue.

mod queue;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

pub(super) use queue::{AdmissionLimits, AdmissionQueue, NotAdmitted, Occupancy};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::Instant,
};

use super::slots::Slot;
use crate::{
    model::{Failure, FatalPrompt, GenerationDefaults},
    worker::WorkerClient,
};

/// Lets requests through to a worker, or not.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<GateState>);

/// The way in, while there is one, and the one that was open last: those on it are counted to the end.
#[derive(Debug, Default)]
struct GateState {
    open: Option<Arc<AdmissionQueue>>,
    last: Weak<AdmissionQueue>,
    /// Why the way was cut off, until its worker has gone.
    cut: Option<Failure>,
}

/// The right to use a worker, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    queue: Arc<AdmissionQueue>,
    defaults: Arc<GenerationDefaults>,
    cut: watch::Receiver<Option<Failure>>,
    queued: Duration,
    slot: AdmissionSlot,
}

/// What a permit stands for.
#[derive(Debug)]
enum AdmissionSlot {
    /// A slot at the engine.
    Engine { _slot: Slot<i32> },
    /// A slot for a call that the engine has no part in.
    NoEngine { _slot: OwnedSemaphorePermit },
}

impl Gate {
    /// Opens the gate to `queue`.
    pub(super) fn open(&self, queue: Arc<AdmissionQueue>) {
        let last = Arc::downgrade(&queue);
        *self.state() = GateState {
            open: Some(queue),
            last,
            cut: None,
        };
    }

    /// Keeps newcomers out.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.open = None;
        state.cut = None;
    }

    /// Keeps newcomers out and answers them with `failure`, until the gate is closed or opened.
    pub(super) fn cut_off(&self, failure: Failure) {
        let mut state = self.state();
        state.open = None;
        state.cut = Some(failure);
    }

    /// As [`Self::cut_off`], and ends those inside.
    pub(super) fn cut_off_all(&self, failure: &Failure) {
        let mut state = self.state();
        let inside = state.last.upgrade();
        state.open = None;
        state.cut = Some(failure.clone());
        drop(state);
        if let Some(queue) = inside {
            queue.cut_off(failure.clone());
        }
    }

    /// Keeps newcomers out if nobody is inside and nobody was for the time `idle`. Says whether it did.
    pub(super) fn close_if_idle(&self, idle: Duration) -> bool {
        let mut state = self.state();
        let closed = state.open.as_ref().is_some_and(|queue| queue.close(idle));
        if closed {
            state.open = None;
        }
        closed
    }

    /// When the last request left, or the gate was opened, if it is open and nobody is inside.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state();
        state.open.as_ref().and_then(|queue| queue.idle_since())
    }

    /// The way in.
    fn current(&self) -> Result<Arc<AdmissionQueue>, NotAdmitted> {
        let state = self.state();
        match (&state.open, &state.cut) {
            (Some(queue), _) => Ok(queue.clone()),
            (None, Some(failure)) => Err(NotAdmitted::CutOff(failure.clone())),
            (None, None) => Err(NotAdmitted::Closed),
        }
    }

    /// Waits for the right to use the worker: of those that wait, the highest `priority` goes first. Safe
    /// to cancel: the place in the queue is given back.
    pub(super) async fn admit(&self, priority: i32) -> Result<Permit, NotAdmitted> {
        let queue = self.current()?;
        let began = Instant::now();
        let mut cut = queue.cut.subscribe();
        let slot = match queue.slots.try_take() {
            Some(slot) => {
                queue.enter(Occupancy::run)?;
                slot
            }
            None => {
                let waiting = queue.enqueue()?;
                let slot = tokio::select! {
                    biased;
                    failure = cut_off(&mut cut) => return Err(NotAdmitted::CutOff(failure)),
                    slot = queue.slots.take(priority) => slot,
                };
                waiting.leave(Occupancy::run);
                slot
            }
        };
        let slot = AdmissionSlot::Engine { _slot: slot };
        Permit::new(queue, cut, began.elapsed(), slot).checked()
    }

    /// Waits for the right to call the worker for something that the engine has no part in. Requests
    /// that run do not stand against it. Safe to cancel.
    pub(super) async fn admit_without_engine(&self) -> Result<Permit, NotAdmitted> {
        let queue = self.current()?;
        let began = Instant::now();
        let mut cut = queue.cut.subscribe();
        let counted = queue.enter_without_engine()?;
        let slot = tokio::select! {
            biased;
            failure = cut_off(&mut cut) => return Err(NotAdmitted::CutOff(failure)),
            slot = queue.no_engine_slots.clone().acquire_owned() => slot.map_err(|_| NotAdmitted::Closed)?,
        };
        // From here on the permit counts.
        std::mem::forget(counted);
        let slot = AdmissionSlot::NoEngine { _slot: slot };
        Permit::new(queue, cut, began.elapsed(), slot).checked()
    }

    /// Who is inside, also behind a closed gate.
    pub(super) fn occupancy(&self) -> Occupancy {
        let last = self.state().last.upgrade();
        last.map(|queue| queue.occupancy()).unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, GateState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    fn new(
        queue: Arc<AdmissionQueue>,
        cut: watch::Receiver<Option<Failure>>,
        queued: Duration,
        slot: AdmissionSlot,
    ) -> Self {
        Self {
            defaults: queue.defaults.load_full(),
            queue,
            cut,
            queued,
            slot,
        }
    }

    /// Calls to the worker.
    pub fn client(&self) -> WorkerClient {
        self.queue.client.clone()
    }

    /// A prompt that has ended a worker of this model: one as long is not to be sent to this one.
    pub fn fatal_prompt(&self) -> Option<FatalPrompt> {
        self.queue.fatal
    }

    /// What the spec says for requests that do not.
    pub fn defaults(&self) -> &GenerationDefaults {
        &self.defaults
    }

    /// How long the request waited.
    pub fn queued(&self) -> Duration {
        self.queued
    }

    /// Waits until the request has to end, and gives the reason. Safe to cancel.
    pub async fn cut_off(&mut self) -> Failure {
        cut_off(&mut self.cut).await
    }

    /// Why the request has to end, if it has to.
    pub fn failure(&self) -> Option<Failure> {
        self.cut.borrow().clone()
    }

    fn checked(self) -> Result<Self, NotAdmitted> {
        match self.failure() {
            Some(failure) => Err(NotAdmitted::CutOff(failure)),
            None => Ok(self),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let without_engine = matches!(self.slot, AdmissionSlot::NoEngine { .. });
        self.queue.occupancy.send_modify(|occupancy| {
            if without_engine {
                occupancy.without_engine -= 1;
            } else {
                occupancy.running -= 1;
            }
            occupancy.exit();
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
        // The queue lives as long as its permits do.
        None => std::future::pending().await,
    }
}
