//! The ledgers of the host and of every device, which decide about a model together.
//!
//! Invariant: a model has a reservation in all memories that it needs, or in none.

use std::{collections::BTreeMap, sync::Arc};

use super::shortage::Shortage;
use crate::{
    lifecycle::{
        gpu::Gpu,
        ledger::{Capacity, Ledger, LedgerDecision, OtherModels, ReservationState},
    },
    model::{ModelId, ModelMemory as Bytes},
};

/// Who holds how much of which memory.
#[derive(Debug, Default)]
pub(super) struct Ledgers {
    pub(super) host: Ledger,
    /// By UUID.
    devices: BTreeMap<Arc<str>, Ledger>,
}

/// What a model needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::lifecycle) struct MemoryNeed {
    /// Of the host's memory, in bytes.
    pub(in crate::lifecycle) host: u64,
    /// Of a device's memory, in bytes, if the model is on one.
    pub(in crate::lifecycle) device: Option<(Gpu, u64)>,
}

/// What there is of the memories that a model needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capacities {
    pub(super) host: Capacity,
    pub(super) device: Option<Capacity>,
}

/// What to do about a model that wants in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AdmissionDecision {
    /// It fits, and its reservations were made.
    Admitted,
    /// It fits once these have gone.
    Evict(Vec<ModelId>),
    /// It may fit once those that load or go have settled or gone.
    Wait,
    /// It does not fit.
    Refused(Shortage),
}

impl Ledgers {
    /// Decides about the model `id`. `candidates` may be evicted for it, the first first. Only
    /// [`AdmissionDecision::Admitted`] changes anything.
    pub(super) fn decide(
        &mut self,
        id: &ModelId,
        need: &MemoryNeed,
        capacities: Capacities,
        candidates: &[ModelId],
    ) -> AdmissionDecision {
        let decision = self.evaluate(need, capacities, candidates);
        if decision == AdmissionDecision::Admitted {
            self.host.reserve(id, need.host);
            if let Some((gpu, bytes)) = &need.device {
                self.device(&gpu.uuid).reserve(id, *bytes);
            }
        }
        decision
    }

    /// As [`Self::decide`], without reserving anything.
    pub(super) fn evaluate(
        &self,
        need: &MemoryNeed,
        capacities: Capacities,
        candidates: &[ModelId],
    ) -> AdmissionDecision {
        let of_device = self.evaluate_device(need, capacities, candidates);
        // Whoever goes for the device's sake makes room on the host too.
        let first = match &of_device {
            LedgerDecision::Evict(ids) => ids.as_slice(),
            _ => &[],
        };
        let rest = candidates.iter().filter(|id| !first.contains(id));
        let ordered: Vec<ModelId> = first.iter().chain(rest).cloned().collect();
        let of_host = self.host.evaluate(need.host, capacities.host, &ordered);
        let shortage = |of: Option<&(Gpu, u64)>, free, evictable| {
            AdmissionDecision::Refused(Shortage {
                of: of.map(|(gpu, _)| gpu.clone()),
                need: of.map_or(need.host, |(_, need)| *need),
                free,
                evictable,
            })
        };
        match (of_device, of_host) {
            (LedgerDecision::Refused { free, evictable }, _) => {
                shortage(need.device.as_ref(), free, evictable)
            }
            (_, LedgerDecision::Refused { free, evictable }) => shortage(None, free, evictable),
            // Nobody goes before it is sure that it helps.
            (LedgerDecision::Wait, _) | (_, LedgerDecision::Wait) => AdmissionDecision::Wait,
            (LedgerDecision::Evict(mut ids), LedgerDecision::Evict(more)) => {
                let new = more.into_iter().filter(|id| !ids.contains(id));
                let new: Vec<_> = new.collect();
                ids.extend(new);
                AdmissionDecision::Evict(ids)
            }
            (LedgerDecision::Evict(ids), LedgerDecision::Fits)
            | (LedgerDecision::Fits, LedgerDecision::Evict(ids)) => AdmissionDecision::Evict(ids),
            (LedgerDecision::Fits, LedgerDecision::Fits) => AdmissionDecision::Admitted,
        }
    }

    fn evaluate_device(
        &self,
        need: &MemoryNeed,
        capacities: Capacities,
        candidates: &[ModelId],
    ) -> LedgerDecision {
        let (Some((gpu, need)), Some(capacity)) = (&need.device, capacities.device) else {
            return LedgerDecision::Fits;
        };
        match self.devices.get(&gpu.uuid) {
            Some(ledger) => ledger.evaluate(*need, capacity, candidates),
            None => Ledger::default().evaluate(*need, capacity, candidates),
        }
    }

    /// The ledger of the device `uuid`.
    pub(super) fn device(&mut self, uuid: &Arc<str>) -> &mut Ledger {
        self.devices.entry(uuid.clone()).or_default()
    }

    /// What another model could have on the device `uuid` now, with headroom.
    pub(super) fn free_on(&self, uuid: &str, capacity: Capacity) -> u64 {
        match self.devices.get(uuid) {
            Some(ledger) => ledger.free(capacity),
            None => Ledger::default().free(capacity),
        }
    }

    /// What others than the model `id` hold on the device `uuid`.
    pub(super) fn others_on(&self, uuid: &str, id: &ModelId) -> OtherModels {
        let ledger = self.devices.get(uuid);
        ledger.map(|ledger| ledger.others(id)).unwrap_or_default()
    }

    /// The model `id`, which is on `device` if on any, was seen to hold this. Zero bytes of a device mean
    /// that nobody says.
    pub(super) fn measure(&mut self, id: &ModelId, device: Option<&Arc<str>>, held: Bytes) {
        self.host.measure(id, held.host_bytes);
        if let Some(uuid) = device.filter(|_| held.device_bytes > 0) {
            self.device(uuid).measure(id, held.device_bytes);
        }
    }

    /// The reservations of the model `id` are to last so.
    pub(super) fn set_state(
        &mut self,
        id: &ModelId,
        device: Option<&Arc<str>>,
        state: ReservationState,
    ) {
        self.host.set_state(id, state);
        if let Some(uuid) = device {
            self.device(uuid).set_state(id, state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Capacity = Capacity {
        limit: 1000,
        available: 1000,
    };

    fn id(name: &str) -> ModelId {
        ModelId::parse(name).expect("a well-formed id")
    }

    fn gpu(uuid: &str) -> Gpu {
        Gpu {
            uuid: uuid.into(),
            ordinal: 0,
            name: "a GPU".to_owned(),
        }
    }

    fn need(host: u64, device: &str, bytes: u64) -> MemoryNeed {
        let device = Some((gpu(device), bytes));
        MemoryNeed { host, device }
    }

    fn with_device(bytes: u64) -> Capacities {
        let device = Some(Capacity {
            limit: bytes,
            available: bytes,
        });
        Capacities { host: HOST, device }
    }

    fn settle(ledgers: &mut Ledgers, name: &str, host: u64, device: &str, bytes: u64) {
        let admitted = ledgers.decide(
            &id(name),
            &need(host, device, bytes),
            with_device(1 << 40),
            &[],
        );
        assert_eq!(admitted, AdmissionDecision::Admitted);
        let device: Arc<str> = device.into();
        let held = Bytes {
            host_bytes: host,
            device_bytes: bytes,
        };
        ledgers.measure(&id(name), Some(&device), held);
        ledgers.set_state(&id(name), Some(&device), ReservationState::Settled);
    }

    #[bounded::test]
    fn what_one_memory_refuses_is_reserved_in_none() {
        let mut ledgers = Ledgers::default();
        let refused = ledgers.decide(&id("m"), &need(10, "g", 100), with_device(100), &[]);
        let short = Shortage {
            of: Some(gpu("g")),
            need: 100,
            free: 100,
            evictable: 0,
        };
        assert_eq!(refused, AdmissionDecision::Refused(short));
        let refused = ledgers.decide(&id("m"), &need(1000, "g", 10), with_device(100), &[]);
        let AdmissionDecision::Refused(Shortage { of: None, .. }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(ledgers.host.free(HOST), 1000);
        assert_eq!(ledgers.others_on("g", &id("x")), OtherModels::default());
    }

    #[bounded::test]
    fn only_models_on_the_device_are_evicted_for_its_memory() {
        let mut ledgers = Ledgers::default();
        settle(&mut ledgers, "here", 10, "g", 60);
        settle(&mut ledgers, "there", 10, "h", 60);
        let capacity = Some(Capacity {
            limit: 100,
            available: 40,
        });
        let capacities = Capacities {
            host: HOST,
            device: capacity,
        };
        let candidates = [id("there"), id("here")];
        let decision = ledgers.decide(&id("m"), &need(10, "g", 50), capacities, &candidates);
        assert_eq!(decision, AdmissionDecision::Evict(vec![id("here")]));
        let refused = ledgers.decide(&id("m"), &need(10, "g", 50), capacities, &candidates[..1]);
        assert!(
            matches!(refused, AdmissionDecision::Refused(_)),
            "{refused:?}"
        );
    }

    #[bounded::test]
    fn who_goes_for_the_device_counts_for_the_host_too() {
        let mut ledgers = Ledgers::default();
        settle(&mut ledgers, "other", 400, "h", 60);
        settle(&mut ledgers, "here", 400, "g", 60);
        let device = Some(Capacity {
            limit: 100,
            available: 40,
        });
        let host = Capacity {
            limit: 1000,
            available: 200,
        };
        let capacities = Capacities { host, device };
        let candidates = [id("other"), id("here")];
        let decision = ledgers.decide(&id("m"), &need(400, "g", 50), capacities, &candidates);
        assert_eq!(decision, AdmissionDecision::Evict(vec![id("here")]));
    }
}
