//! The host's memory: what there is, who claims it, and who is let in.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytesize::ByteSize;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::ledger::{Decision, Ledger, Supply, Tenure, with_headroom};
use crate::{
    model::{Failure, ModelId, Reason},
    system::{SystemInfo, SystemMonitor},
};

/// What there is of memory. Cheap to share.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    system: Arc<SystemMonitor>,
    limit: Option<u64>,
    ledger: Mutex<Ledger>,
    /// Changes with the ledger.
    changes: watch::Sender<u64>,
    /// Held while somebody decides and evicts, so that no two make room at the expense of each other.
    turn: tokio::sync::Mutex<()>,
}

/// A model's claim on memory, given up when dropped.
#[derive(Debug)]
pub(super) struct Claim {
    memory: Memory,
    id: ModelId,
}

/// Makes room.
pub(super) trait Evict: Send + Sync {
    /// Models that may be evicted, in the order in which they should be.
    fn candidates(&self) -> Vec<ModelId>;

    /// Evicts the model `id`, unless it has come into use. When this answers it is on its way.
    fn evict<'a>(&'a self, id: &'a ModelId, message: &'a str) -> BoxFuture<'a, bool>;
}

/// How full the memory is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fill {
    /// Share that is in use of what models may have, or of what the system has: the larger one. What is
    /// only promised is not in use, and what is going no longer.
    pub(super) share: f64,
    /// Share that the system can still give.
    pub(super) left: f64,
}

/// How long to wait for news of memory that nobody announces.
const PATIENCE: Duration = Duration::from_secs(1);

// === impl Memory ===

impl Memory {
    /// Memory as `system` sees it, limits of the container included; models may have at most `limit` bytes
    /// of it together.
    pub fn new(system: Arc<SystemMonitor>, limit: Option<u64>) -> Self {
        Self(Arc::new(Inner {
            system,
            limit,
            ledger: Mutex::default(),
            changes: watch::Sender::new(0),
            turn: tokio::sync::Mutex::default(),
        }))
    }

    /// Lets the model `id`, which needs `need` bytes, in as soon as there is room, and makes room with
    /// `evictor` where there is none. Safe to cancel.
    ///
    /// # Errors
    ///
    /// When it does not fit.
    pub(super) async fn admit(
        self,
        id: ModelId,
        need: u64,
        evictor: impl Evict,
    ) -> Result<Claim, Failure> {
        let mut changes = self.0.changes.subscribe();
        loop {
            changes.mark_unchanged();
            match self.decide(&id, need, &evictor).await {
                Decision::Admitted => return Ok(Claim { memory: self, id }),
                Decision::Evict(_) => {}
                Decision::Wait => {
                    // What is free also changes without the ledger.
                    let _ = tokio::time::timeout(PATIENCE, changes.changed()).await;
                }
                Decision::Refused { free, evictable } => {
                    return Err(refused(need, free, evictable));
                }
            }
        }
    }

    async fn decide(&self, id: &ModelId, need: u64, evictor: &impl Evict) -> Decision {
        let _turn = self.0.turn.lock().await;
        let supply = self.supply();
        let candidates = evictor.candidates();
        let decision = self.ledger().decide(id, need, supply, &candidates);
        if let Decision::Evict(ids) = &decision {
            let message = format!(
                "evicted to make room for {id}, which needs {}; load it again when there is room, or pin it",
                iec(need)
            );
            for id in ids {
                evictor.evict(id, &message).await;
            }
        }
        decision
    }

    /// Whether a model that needs `need` bytes could be let in now without evicting anything.
    pub(super) fn has_room_for(&self, need: u64) -> bool {
        with_headroom(need) <= self.ledger().free(self.supply())
    }

    /// How full it is.
    pub(super) fn fill(&self) -> Fill {
        let system = self.0.system.sample();
        let total = system.memory_total_bytes.max(1) as f64;
        let left = system.memory_available_bytes as f64 / total;
        let of_limit = self.0.limit.map_or(0.0, |limit| {
            self.ledger().held() as f64 / limit.max(1) as f64
        });
        Fill {
            share: of_limit.max(1.0 - left),
            left,
        }
    }

    fn supply(&self) -> Supply {
        let SystemInfo {
            memory_total_bytes,
            memory_available_bytes,
            ..
        } = self.0.system.sample();
        Supply {
            limit: self.0.limit.unwrap_or(memory_total_bytes),
            available: memory_available_bytes,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Ledger)) {
        change(&mut self.ledger());
        self.0
            .changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Claim ===

impl Claim {
    /// The model was seen to hold `bytes`.
    pub(super) fn measure(&self, bytes: u64) {
        // Nobody waits for a model to grow.
        self.memory.ledger().measure(&self.id, bytes);
    }

    /// The model was seen to hold `bytes`, and that is what it claims from now on.
    pub(super) fn settle(&self, bytes: u64) {
        self.memory.change(|ledger| {
            ledger.measure(&self.id, bytes);
            ledger.set_tenure(&self.id, Tenure::Settled);
        });
    }

    /// The model is going.
    pub(super) fn leave(&self) {
        self.memory
            .change(|ledger| ledger.set_tenure(&self.id, Tenure::Leaving));
    }

    /// The model's worker cannot be reaped.
    pub(super) fn stick(&self) {
        self.memory
            .change(|ledger| ledger.set_tenure(&self.id, Tenure::Stuck));
    }

    /// What was admitted, in bytes.
    pub(super) fn admitted(&self) -> u64 {
        self.memory.ledger().admitted(&self.id).unwrap_or_default()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.memory.change(|ledger| ledger.release(&self.id));
    }
}

fn refused(need: u64, free: u64, evictable: u64) -> Failure {
    let message = format!(
        "the model needs about {} of memory, {} with headroom, {} is free and evicting idle models would add {}; \
         unload other models, or give it a shorter context_length, a quantization or a smaller dtype",
        iec(need),
        iec(with_headroom(need)),
        iec(free),
        iec(evictable),
    );
    Failure::new(Reason::InsufficientMemory, message)
}

pub(super) fn iec(bytes: u64) -> impl std::fmt::Display {
    ByteSize(bytes).display().iec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_the_numbers() {
        let refusal = refused(10 << 30, 11 << 30, 1 << 30);
        assert_eq!(refusal.reason, Reason::InsufficientMemory);
        for number in ["10.0 GiB", "12.0 GiB", "11.0 GiB", "1.0 GiB"] {
            assert!(refusal.message.contains(number), "{}", refusal.message);
        }
    }
}
