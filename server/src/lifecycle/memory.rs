//! The memory of the host and of its devices: what there is, who has reserved it, and who is let in.

mod ledgers;
mod shortage;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::{BoxFuture, join_all};
pub(super) use ledgers::MemoryNeed;
use ledgers::{AdmissionDecision, Capacities, Ledgers};
pub(super) use shortage::iec;
use tokio::sync::watch;

use super::{
    gpu::{DEVICE_READ_TIMEOUT, Gpu},
    ledger::{Capacity, OtherModels, ReservationState, with_headroom},
};
use crate::{
    failpoint,
    model::{Failure, ModelId, ModelMemory as Bytes, Reason},
    system::{Device, DeviceReading, SystemInfo, SystemMonitor},
};

/// What there is of memory. Cheap to share.
#[derive(Clone, Debug)]
pub struct MemoryAdmission(Arc<AdmissionState>);

#[derive(Debug)]
struct AdmissionState {
    system: Arc<SystemMonitor>,
    limit: Option<u64>,
    ledgers: Mutex<Ledgers>,
    /// Changes with the ledgers.
    changes: watch::Sender<u64>,
    /// Models that are asked to go: until they have answered, they neither hold their memory for good nor give it back.
    evictions: AtomicUsize,
}

/// A model's reservation of memory, given up when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    memory: MemoryAdmission,
    id: ModelId,
    /// UUID of the device that the model is on, if it is on one.
    device: Option<Arc<str>>,
}

/// What a dead worker held of a device's memory: until this is dropped, it is on its way back.
#[derive(Debug)]
pub(super) struct UnreclaimedMemory {
    memory: MemoryAdmission,
    device: Arc<str>,
    bytes: u64,
}

/// A model that is asked to go.
#[derive(Debug)]
pub(super) struct Eviction<'a>(&'a MemoryAdmission);

/// Makes room.
pub(super) trait Evict: Send + Sync {
    /// Models that may be evicted, in the order in which they should be.
    fn candidates(&self) -> Vec<ModelId>;

    /// Evicts the model `id`, unless it has come into use. When this answers it is on its way.
    fn evict<'a>(&'a self, id: &'a ModelId, message: &'a str) -> BoxFuture<'a, bool>;
}

/// How full the memory is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct MemoryFill {
    /// Share that is in use of what models may have, or of what the system has: the larger one. What is
    /// only promised is not in use, and what is going no longer.
    pub(super) share: f64,
    /// Share that the system can still give.
    pub(super) available_share: f64,
}

/// Share of the memory that has to be left: below it workers are killed before the system picks one, which may be the
/// server. Nobody is let in into it.
pub(super) const CRITICAL: f64 = 0.03;

/// How long to wait for news of memory that nobody announces.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

impl MemoryAdmission {
    /// Memory as `system` sees it, limits of the container included; models may have at most `limit` bytes
    /// of the host's together, and of a device's what there is.
    pub fn new(system: Arc<SystemMonitor>, limit: Option<u64>) -> Self {
        Self(Arc::new(AdmissionState {
            system,
            limit,
            ledgers: Mutex::default(),
            changes: watch::Sender::new(0),
            evictions: AtomicUsize::new(0),
        }))
    }

    /// Lets the model `id`, which has this `need`, in as soon as there is room, and makes room with
    /// `evictor` where there is none. Safe to cancel.
    ///
    /// # Errors
    ///
    /// When it does not fit, or its device cannot be asked.
    pub(super) async fn admit(
        self,
        id: ModelId,
        need: MemoryNeed,
        evictor: impl Evict,
    ) -> Result<Reservation, Failure> {
        let mut changes = self.0.changes.subscribe();
        loop {
            changes.mark_unchanged();
            match self.decide(&id, &need, &evictor).await? {
                AdmissionDecision::Admitted => {
                    return Ok(Reservation {
                        memory: self,
                        id,
                        device: need.device.map(|(gpu, _)| gpu.uuid),
                    });
                }
                AdmissionDecision::Evict(ids) => evict(&id, &need, ids, &evictor).await,
                AdmissionDecision::Wait => wait_for(&mut changes).await,
                AdmissionDecision::Refused(_) if self.is_evicting() => wait_for(&mut changes).await,
                // What was read of the device may be older than the change.
                AdmissionDecision::Refused(_) if changes.has_changed().unwrap_or(false) => {}
                AdmissionDecision::Refused(shortage) => return Err(shortage.into()),
            }
        }
    }

    async fn decide(
        &self,
        id: &ModelId,
        need: &MemoryNeed,
        evictor: &impl Evict,
    ) -> Result<AdmissionDecision, Failure> {
        let device = match &need.device {
            Some((gpu, _)) => Some(self.device_capacity(gpu).await?),
            None => None,
        };
        let host = self.capacity();
        let candidates = evictor.candidates();
        let capacities = Capacities { host, device };
        Ok(self.ledgers().decide(id, need, capacities, &candidates))
    }

    /// A model is asked to go, until what this gives is dropped.
    pub(super) fn begin_eviction(&self) -> Eviction<'_> {
        self.0.evictions.fetch_add(1, Ordering::SeqCst);
        Eviction(self)
    }

    fn is_evicting(&self) -> bool {
        self.0.evictions.load(Ordering::SeqCst) > 0
    }

    /// Whether the model `id`, which is loaded and is to be loaded anew with this `need`, would be let in once
    /// it has gone, and with it what `evictor` may evict.
    ///
    /// # Errors
    ///
    /// When it would not, or its device cannot be asked.
    pub(super) async fn check_again(
        &self,
        id: &ModelId,
        need: &MemoryNeed,
        evictor: &impl Evict,
    ) -> Result<(), Failure> {
        let device = match &need.device {
            Some((gpu, _)) => Some(self.device_capacity(gpu).await?),
            None => None,
        };
        let host = self.capacity();
        let mut going = vec![id.clone()];
        going.extend(evictor.candidates().into_iter().filter(|other| other != id));
        let capacities = Capacities { host, device };
        match self.ledgers().evaluate(need, capacities, &going) {
            AdmissionDecision::Refused(shortage) => Err(shortage.into()),
            AdmissionDecision::Admitted | AdmissionDecision::Evict(_) | AdmissionDecision::Wait => {
                Ok(())
            }
        }
    }

    /// Whether a model of this `need` could be let in now without evicting anything, as far as the last
    /// reading of its device says.
    pub(super) fn fits(&self, need: &MemoryNeed) -> bool {
        let host = with_headroom(need.host) <= self.ledgers().host.free(self.capacity());
        let reading = self.0.system.devices();
        let device = need.device.as_ref().is_none_or(|(gpu, need)| {
            let device = reading.device(&gpu.uuid);
            device.is_some_and(|device| with_headroom(*need) <= self.free_on(device))
        });
        host && device
    }

    /// What another model could have of `device`, with headroom.
    pub(super) fn free_on(&self, device: &Device) -> u64 {
        self.ledgers().free_on(&device.uuid, capacity(device))
    }

    /// What others than the model `id` hold of the device `uuid`.
    pub(super) fn others_on(&self, uuid: &str, id: &ModelId) -> OtherModels {
        self.ledgers().others_on(uuid, id)
    }

    /// How full it is.
    pub(super) fn fill(&self) -> MemoryFill {
        let system = self.0.system.sample();
        let total = system.memory_total_bytes.max(1) as f64;
        let available_share = match failpoint::is_ordered("memory-short") {
            true => 0.0,
            false => system.memory_available_bytes as f64 / total,
        };
        let of_limit = self.0.limit.map_or(0.0, |limit| {
            self.ledgers().host.used_bytes() as f64 / limit.max(1) as f64
        });
        MemoryFill {
            share: of_limit.max(1.0 - available_share),
            available_share,
        }
    }

    fn capacity(&self) -> Capacity {
        let SystemInfo {
            memory_total_bytes,
            memory_available_bytes,
            ..
        } = self.0.system.sample();
        Capacity {
            limit: self.0.limit.unwrap_or(memory_total_bytes),
            available: memory_available_bytes.saturating_sub(critical(memory_total_bytes)),
        }
    }

    async fn device_capacity(&self, gpu: &Gpu) -> Result<Capacity, Failure> {
        let unavailable = |why: &str| {
            let message = format!("{gpu} cannot be used: {why}; see what nvidia-smi says");
            Failure::new(Reason::DeviceUnavailable, message).about(gpu.device_name())
        };
        let reading = self.0.system.fresh_devices(DEVICE_READ_TIMEOUT).await;
        let reading = reading.map_err(|silent| unavailable(&silent.to_string()))?;
        if let DeviceReading {
            error: Some(why), ..
        } = &*reading
        {
            return Err(unavailable(why));
        }
        match reading.device(&gpu.uuid) {
            Some(device) => Ok(capacity(device)),
            None => Err(unavailable("the driver does not know it any more")),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Ledgers) -> T) -> T {
        let changed = change(&mut self.ledgers());
        self.announce();
        changed
    }

    /// Those who wait look again.
    fn announce(&self) {
        self.0
            .changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    fn ledgers(&self) -> MutexGuard<'_, Ledgers> {
        let ledgers = self.0.ledgers.lock();
        ledgers.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// The model was seen to hold this.
    pub(super) fn measure(&self, held: Bytes) {
        // Nobody waits for a model to grow.
        let mut ledgers = self.memory.ledgers();
        ledgers.measure(&self.id, self.device.as_ref(), held);
    }

    /// The model was seen to hold this, and that is what it claims from now on. Where nobody says what it
    /// has of its device, that is what it was promised.
    pub(super) fn settle(&self, held: Bytes) {
        let device = self.device.as_ref();
        self.memory.change(|ledgers| {
            let promised = device.and_then(|uuid| ledgers.device(uuid).admitted(&self.id));
            let device_bytes = match held.device_bytes {
                0 => promised.unwrap_or_default(),
                reported => reported,
            };
            let held = Bytes {
                device_bytes,
                ..held
            };
            ledgers.measure(&self.id, device, held);
            ledgers.set_state(&self.id, device, ReservationState::Settled);
        });
    }

    /// The model is going.
    pub(super) fn mark_leaving(&self) {
        self.set_state(ReservationState::Leaving);
    }

    /// The model's worker cannot be reaped.
    pub(super) fn mark_stuck(&self) {
        self.set_state(ReservationState::Stuck);
    }

    /// The model's worker was reaped: the host has its memory back.
    pub(super) fn release_host(&self) {
        self.memory.change(|ledgers| ledgers.host.release(&self.id));
    }

    /// The model's worker is gone, and what it held of a device comes back without the model.
    pub(super) fn begin_reclaim(self) -> Option<UnreclaimedMemory> {
        let device = self.device.clone()?;
        let bytes = self.memory.change(|ledgers| {
            ledgers.host.release(&self.id);
            ledgers.device(&device).begin_reclaim(&self.id)
        });
        let memory = self.memory.clone();
        Some(UnreclaimedMemory {
            memory,
            device,
            bytes,
        })
    }

    /// What was admitted of the host's memory, in bytes.
    pub(super) fn admitted(&self) -> u64 {
        let ledgers = self.memory.ledgers();
        ledgers.host.admitted(&self.id).unwrap_or_default()
    }

    fn set_state(&self, state: ReservationState) {
        let device = self.device.as_ref();
        self.memory
            .change(|ledgers| ledgers.set_state(&self.id, device, state));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.change(|ledgers| {
            ledgers.host.release(&self.id);
            if let Some(uuid) = &self.device {
                ledgers.device(uuid).release(&self.id);
            }
        });
    }
}

impl Drop for Eviction<'_> {
    fn drop(&mut self) {
        // In this order: who sees that none is under way has also heard of it.
        self.0.announce();
        self.0.0.evictions.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for UnreclaimedMemory {
    fn drop(&mut self) {
        self.memory
            .change(|ledgers| ledgers.device(&self.device).reclaimed(self.bytes));
    }
}

impl MemoryNeed {
    fn in_words(&self) -> String {
        match &self.device {
            None => iec(self.host).to_string(),
            Some((gpu, bytes)) => format!("{} and {} on {gpu}", iec(self.host), iec(*bytes)),
        }
    }
}

/// Evicts the models `ids` for the model `id`. One whose driver hangs holds up none of the others.
async fn evict(id: &ModelId, need: &MemoryNeed, ids: Vec<ModelId>, evictor: &impl Evict) {
    let message = format!(
        "evicted to make room for {id}, which needs {}; load it again when there is room, or pin it",
        need.in_words()
    );
    join_all(ids.iter().map(|id| evictor.evict(id, &message))).await;
}

/// What has to be left of so many bytes.
fn critical(total: u64) -> u64 {
    (total as f64 * CRITICAL) as u64
}

/// Waits for a change. What is free also changes without the ledger.
async fn wait_for(changes: &mut watch::Receiver<u64>) {
    let _ = tokio::time::timeout(RECHECK_INTERVAL, changes.changed()).await;
}

/// What there is of the memory of `device`. Other processes' part of it is not available.
fn capacity(device: &Device) -> Capacity {
    Capacity {
        limit: device.memory_total_bytes,
        available: device.memory_free_bytes,
    }
}
