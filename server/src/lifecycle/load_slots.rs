//! Places among the loads that run at the same time on a device.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::slots::{Slot, Slots};

/// The places of all devices.
#[derive(Debug)]
pub(super) struct LoadSlots {
    /// Places that a device has.
    places: usize,
    devices: Mutex<BTreeMap<String, Arc<Slots<Rank>>>>,
}

/// A place that is taken, given back when dropped.
pub(super) type LoadSlot = Slot<Rank>;

/// Who loads before whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Required models go first.
    pub(super) required: bool,
    /// Then those of higher priority.
    pub(super) priority: i32,
}

// === impl LoadSlots ===

impl LoadSlots {
    /// `places` places on each device, at least one.
    pub(super) fn new(places: usize) -> Self {
        Self {
            places: places.max(1),
            devices: Mutex::default(),
        }
    }

    /// Waits for a place on `device`. Whoever drops the future leaves the queue.
    pub(super) fn take(
        &self,
        device: &str,
        rank: Rank,
    ) -> impl Future<Output = LoadSlot> + Send + use<> {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = devices
            .entry(device.to_owned())
            .or_insert_with(|| Slots::new(self.places))
            .clone();
        async move { slots.take(rank).await }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn rank(required: bool, priority: i32) -> Rank {
        Rank { required, priority }
    }

    #[tokio::test]
    async fn required_models_go_before_those_of_higher_priority() {
        let slots = LoadSlots::new(1);
        let held = slots.take("cpu", Rank::default()).await;
        let ranks = [rank(false, 1), rank(false, 2), rank(true, -5)];
        let mut waiting = ranks.map(|rank| slots.take("cpu", rank).boxed());
        for one in &mut waiting {
            assert!(futures::poll!(one).is_pending());
        }
        drop(held);
        let [low, high, required] = waiting;
        for next in [required, high, low] {
            assert!(next.now_or_never().is_some());
        }
    }

    #[tokio::test]
    async fn devices_do_not_wait_for_each_other() {
        let slots = LoadSlots::new(1);
        let _held = slots.take("cpu", Rank::default()).await;
        assert!(
            slots
                .take("cuda:0", Rank::default())
                .now_or_never()
                .is_some()
        );
        assert!(slots.take("cpu", Rank::default()).now_or_never().is_none());
    }
}
