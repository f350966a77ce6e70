//! The way to one worker: who runs, who waits, and how many may.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

use super::Refusal;
use crate::{
    lifecycle::{fatal_prompt::FatalPrompt, slots::Slots},
    model::{Failure, GenerationDefaults},
    worker::Client,
};

/// The way to one worker.
#[derive(Debug)]
pub(in crate::lifecycle) struct Lane {
    pub(super) client: Client,
    pub(super) fatal: Option<FatalPrompt>,
    pub(super) defaults: ArcSwap<GenerationDefaults>,
    pub(super) slots: Arc<Slots<i32>>,
    /// Places for calls that the engine has no part in.
    pub(super) asides: Arc<Semaphore>,
    opened: Instant,
    pub(super) crowd: watch::Sender<Crowd>,
    pub(super) cut: watch::Sender<Option<Failure>>,
}

/// Who is on a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::lifecycle) struct Crowd {
    pub(in crate::lifecycle) running: u32,
    pub(in crate::lifecycle) waiting: u32,
    /// Calls that the engine has no part in.
    pub(in crate::lifecycle) aside: u32,
    /// When the first of those that run began, if any does.
    pub(in crate::lifecycle) busy_since: Option<Instant>,
    /// When the last of them left, if any was there.
    left: Option<Instant>,
    /// Nobody is let in any more.
    closed: bool,
    pub(super) limits: LaneLimits,
}

/// How many may be on a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::lifecycle) struct LaneLimits {
    /// Requests that run at the same time.
    pub(in crate::lifecycle) max_concurrency: u32,
    /// Requests that wait.
    pub(in crate::lifecycle) max_queue: u32,
}

/// A place in the queue.
pub(super) struct Waiting<'a>(&'a Lane);

/// A place among the calls that the engine has no part in.
pub(super) struct Aside<'a>(&'a Lane);

/// Calls that the engine has no part in, those that wait included.
const MAX_ASIDES: u32 = 256;

/// Calls at the same time that the engine has no part in. They are short, and further ones wait.
const ASIDES: usize = 8;

// === impl Crowd ===

impl Crowd {
    pub(super) fn run(&mut self) {
        self.running += 1;
        self.busy_since.get_or_insert_with(Instant::now);
    }

    /// Whether nobody is there.
    pub(super) fn is_empty(&self) -> bool {
        self.running + self.waiting + self.aside == 0
    }

    /// Somebody left.
    pub(super) fn leave(&mut self) {
        if self.running == 0 {
            self.busy_since = None;
        }
        self.left = Some(Instant::now());
    }
}

// === impl Waiting ===

impl Waiting<'_> {
    /// Leaves the queue for where `enter` counts it, in one change: whoever waits for the lane to be
    /// empty sees the request in one place or the other.
    pub(super) fn leave(self, enter: impl FnOnce(&mut Crowd)) {
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
    /// A lane to `client` within `limits`, for prompts that are shorter than a `fatal` one.
    pub(in crate::lifecycle) fn new(
        client: Client,
        defaults: GenerationDefaults,
        limits: LaneLimits,
        fatal: Option<FatalPrompt>,
    ) -> Self {
        let crowd = Crowd {
            limits,
            ..Crowd::default()
        };
        Self {
            client,
            fatal,
            defaults: ArcSwap::from_pointee(defaults),
            slots: Slots::new(limits.max_concurrency as usize),
            asides: Arc::new(Semaphore::new(ASIDES)),
            opened: Instant::now(),
            crowd: watch::Sender::new(crowd),
            cut: watch::Sender::new(None),
        }
    }

    /// From the next request on these hold.
    pub(in crate::lifecycle) fn adjust(&self, defaults: GenerationDefaults, limits: LaneLimits) {
        self.defaults.store(Arc::new(defaults));
        self.crowd.send_modify(|crowd| crowd.limits = limits);
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

    /// Who is on the lane.
    pub(in crate::lifecycle) fn crowd(&self) -> Crowd {
        *self.crowd.borrow()
    }

    /// Waits until nobody runs or waits.
    pub(in crate::lifecycle) async fn empty(&self) {
        let mut crowd = self.crowd.subscribe();
        // The sender lives as long as this lane, so the wait cannot fail.
        let _ = crowd.wait_for(Crowd::is_empty).await;
    }

    pub(super) fn idle_since(&self) -> Option<Instant> {
        let crowd = self.crowd();
        crowd.is_empty().then(|| crowd.left.unwrap_or(self.opened))
    }

    /// Lets nobody in any more if nobody is there and nobody was for the time `idle`.
    pub(super) fn close(&self, idle: Duration) -> bool {
        self.crowd.send_if_modified(|crowd| {
            let left = crowd.left.unwrap_or(self.opened);
            let close = crowd.is_empty() && left.elapsed() >= idle;
            crowd.closed |= close;
            close
        })
    }

    /// Counts somebody in.
    pub(super) fn enter(&self, count: impl FnOnce(&mut Crowd)) -> Result<(), Refusal> {
        let entered = self.crowd.send_if_modified(|crowd| {
            if !crowd.closed {
                count(crowd);
            }
            !crowd.closed
        });
        if entered {
            Ok(())
        } else {
            Err(Refusal::Closed)
        }
    }

    pub(super) fn queue(&self) -> Result<Waiting<'_>, Refusal> {
        let mut full = None;
        self.enter(|crowd| {
            let limit = crowd.limits.max_queue;
            if crowd.waiting < limit {
                crowd.waiting += 1;
            } else {
                full = Some(limit);
            }
        })?;
        match full {
            None => Ok(Waiting(self)),
            Some(limit) => Err(Refusal::QueueFull { limit }),
        }
    }

    pub(super) fn step_aside(&self) -> Result<Aside<'_>, Refusal> {
        let mut full = false;
        self.enter(|crowd| {
            full = crowd.aside >= MAX_ASIDES;
            crowd.aside += u32::from(!full);
        })?;
        if full {
            Err(Refusal::QueueFull { limit: MAX_ASIDES })
        } else {
            Ok(Aside(self))
        }
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        self.0.crowd.send_modify(|crowd| {
            crowd.aside -= 1;
            crowd.leave();
        });
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.crowd.send_modify(|crowd| {
            crowd.waiting -= 1;
            crowd.leave();
        });
    }
}
