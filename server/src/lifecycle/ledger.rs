//! Who holds how much memory, and whether another model fits. Without clock or I/O.
//!
//! Invariant: what is admitted together never claims more than there is, as far as needs were right:
//! a model that loads claims its reservation, or what it was seen to hold where that is more; a model that
//! has settled claims what it was seen to hold.

use std::collections::BTreeMap;

use crate::model::ModelId;

/// What every model claims of one memory, in bytes.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: BTreeMap<ModelId, LedgerEntry>,
    /// What workers held that are gone and whose memory was not seen to come back yet.
    unreclaimed: u64,
}

/// What there is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capacity {
    /// For all models together.
    pub(super) limit: u64,
    /// What the system can still give.
    pub(super) available: u64,
}

/// What a model claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LedgerEntry {
    reserved: u64,
    measured: u64,
    state: ReservationState,
}

/// How long a reservation is to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReservationState {
    /// The model loads: its reservation is taken for what it will hold.
    Loading,
    /// The model is READY: it holds what it was seen to hold.
    Settled,
    /// The model is going: what it holds comes back.
    Leaving,
    /// The model's worker cannot be reaped: nobody knows when it comes back.
    Stuck,
}

/// What models were seen to hold, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OtherModels {
    /// Those that are there.
    pub(super) staying: Vec<(ModelId, u64)>,
    /// Those that are going, whose memory may have come back already.
    pub(super) leaving: Vec<(ModelId, u64)>,
    /// Workers that are gone and whose memory was not seen to come back yet.
    pub(super) unreclaimed: u64,
}

/// What to do about a model that wants in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LedgerDecision {
    /// It fits.
    Fits,
    /// It fits once these have gone.
    Evict(Vec<ModelId>),
    /// It may fit once those that load or go have settled or gone.
    Wait,
    /// It does not fit.
    Refused {
        /// What it may have.
        free: u64,
        /// What evictions would add to that.
        evictable: u64,
    },
}

/// What a model is given beyond its expected need, in percent: estimates are wrong, and a system without
/// any free memory is of no use.
const HEADROOM_PERCENT: u64 = 120;

/// `need` with headroom.
pub(super) fn with_headroom(need: u64) -> u64 {
    let wide = (u128::from(need) * u128::from(HEADROOM_PERCENT)).div_ceil(100);
    u64::try_from(wide).unwrap_or(u64::MAX)
}

impl Ledger {
    /// Decides about a model that needs `need` bytes. `candidates` may be evicted for it, the first first;
    /// those that claim nothing here are of no help and stay.
    pub(super) fn evaluate(
        &self,
        need: u64,
        capacity: Capacity,
        candidates: &[ModelId],
    ) -> LedgerDecision {
        let want = with_headroom(need);
        let free = self.free(capacity);
        if want <= free {
            return LedgerDecision::Fits;
        }
        let going = self.sum(|entry| match entry.state {
            ReservationState::Leaving => entry.measured,
            _ => 0,
        });
        let leaving = going.saturating_add(self.unreclaimed);
        let mut soon = free.saturating_add(leaving);
        if want <= soon {
            return LedgerDecision::Wait;
        }
        let mut evicted = Vec::new();
        for candidate in candidates {
            if let Some(entry) = self.entries.get(candidate) {
                soon = soon.saturating_add(entry.measured);
                evicted.push(candidate.clone());
            }
            if want <= soon {
                return LedgerDecision::Evict(evicted);
            }
        }
        let not_yet_used = self.sum(LedgerEntry::not_yet_used);
        if want <= soon.saturating_add(not_yet_used) {
            return LedgerDecision::Wait;
        }
        LedgerDecision::Refused {
            free,
            evictable: soon - free - leaving,
        }
    }

    /// Promises the model `id` what it needs, with headroom.
    pub(super) fn reserve(&mut self, id: &ModelId, need: u64) {
        let entry = LedgerEntry {
            reserved: with_headroom(need),
            measured: 0,
            state: ReservationState::Loading,
        };
        self.entries.insert(id.clone(), entry);
    }

    /// What another model could have now, with headroom.
    pub(super) fn free(&self, capacity: Capacity) -> u64 {
        let claimed = self
            .sum(LedgerEntry::bytes)
            .saturating_add(self.unreclaimed);
        // What models hold is gone from what the system can give; what they are about to take is not.
        let promised = self.sum(LedgerEntry::not_yet_used);
        let of_limit = capacity.limit.saturating_sub(claimed);
        of_limit.min(capacity.available.saturating_sub(promised))
    }

    /// What all models hold together, without those that are going.
    pub(super) fn used_bytes(&self) -> u64 {
        self.sum(|entry| match entry.state {
            ReservationState::Leaving => 0,
            ReservationState::Loading | ReservationState::Settled | ReservationState::Stuck => {
                entry.measured
            }
        })
    }

    /// What others than the model `id` were seen to hold.
    pub(super) fn others(&self, id: &ModelId) -> OtherModels {
        let others = self.entries.iter().filter(|(other, _)| *other != id);
        let (leaving, staying): (Vec<_>, Vec<_>) =
            others.partition(|(_, entry)| entry.state == ReservationState::Leaving);
        let held = |entries: Vec<(&ModelId, &LedgerEntry)>| {
            let held = entries.into_iter();
            held.map(|(other, entry)| (other.clone(), entry.measured))
                .collect()
        };
        OtherModels {
            staying: held(staying),
            leaving: held(leaving),
            unreclaimed: self.unreclaimed,
        }
    }

    /// What the model `id` may hold before it is more than was admitted, if it has a reservation.
    pub(super) fn admitted(&self, id: &ModelId) -> Option<u64> {
        self.entries.get(id).map(|entry| entry.reserved)
    }

    /// The model `id` was seen to hold `bytes`.
    pub(super) fn measure(&mut self, id: &ModelId, bytes: u64) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.measured = bytes;
        }
    }

    /// The reservation of `id` is to last so.
    pub(super) fn set_state(&mut self, id: &ModelId, state: ReservationState) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.state = state;
        }
    }

    /// The model `id` claims nothing any more. Gives what it was seen to hold.
    pub(super) fn release(&mut self, id: &ModelId) -> u64 {
        self.entries.remove(id).map_or(0, |entry| entry.measured)
    }

    /// The worker of the model `id` is gone: what it held is to be reclaimed without it. Gives that, for
    /// [`Ledger::reclaimed`].
    pub(super) fn begin_reclaim(&mut self, id: &ModelId) -> u64 {
        let held = self.release(id);
        self.unreclaimed = self.unreclaimed.saturating_add(held);
        held
    }

    /// What was to be reclaimed has come back, or is not waited for any more.
    pub(super) fn reclaimed(&mut self, bytes: u64) {
        self.unreclaimed = self.unreclaimed.saturating_sub(bytes);
    }

    fn sum(&self, part: impl Fn(&LedgerEntry) -> u64) -> u64 {
        self.entries.values().map(part).fold(0, u64::saturating_add)
    }
}

impl LedgerEntry {
    fn bytes(&self) -> u64 {
        self.measured.saturating_add(self.not_yet_used())
    }

    /// What it was promised and has not taken yet.
    fn not_yet_used(&self) -> u64 {
        match self.state {
            ReservationState::Loading => self.reserved.saturating_sub(self.measured),
            ReservationState::Settled | ReservationState::Leaving | ReservationState::Stuck => 0,
        }
    }
}

#[cfg(test)]
mod tests;
