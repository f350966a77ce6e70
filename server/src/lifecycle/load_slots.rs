//! Places among the loads that run at the same time on a device.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::slots::{Slot, Slots};
use crate::model::DeviceName;

/// The slots of all devices.
#[derive(Debug)]
pub(super) struct LoadSlots {
    /// Places that the CPU has.
    cpu: usize,
    /// Places that any other device has.
    accelerator: usize,
    devices: Mutex<BTreeMap<DeviceName, Arc<Slots<Rank>>>>,
}

/// A slot that is taken, given back when dropped.
pub(super) type LoadSlot = Slot<Rank>;

/// Who loads before whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Required models go first.
    pub(super) required: bool,
    /// Then those of higher priority.
    pub(super) priority: i32,
}

impl LoadSlots {
    /// So many slots on the CPU and on each other device, at least one.
    pub(super) fn new(cpu: usize, accelerator: usize) -> Self {
        Self {
            cpu: cpu.max(1),
            accelerator: accelerator.max(1),
            devices: Mutex::default(),
        }
    }

    /// Waits for a slot on `device`, from this call on. Whoever drops the future leaves the queue.
    pub(super) fn take(
        &self,
        device: &DeviceName,
        rank: Rank,
    ) -> impl Future<Output = LoadSlot> + Send + use<> {
        let slots = if *device == DeviceName::Cpu {
            self.cpu
        } else {
            self.accelerator
        };
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = devices
            .entry(device.clone())
            .or_insert_with(|| Slots::new(slots))
            .clone();
        slots.take(rank)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn gpu(uuid: &str) -> DeviceName {
        DeviceName::Uuid(uuid.into())
    }

    fn rank(required: bool, priority: i32) -> Rank {
        Rank { required, priority }
    }

    #[bounded::test]
    async fn required_models_load_before_those_of_higher_priority() {
        let slots = LoadSlots::new(1, 1);
        let held = slots.take(&DeviceName::Cpu, Rank::default()).await;
        let ranks = [rank(false, 1), rank(false, 2), rank(true, -5)];
        let mut waiting = ranks.map(|rank| slots.take(&DeviceName::Cpu, rank).boxed());
        for one in &mut waiting {
            assert!(futures::poll!(one).is_pending());
        }
        drop(held);
        let [low, high, required] = waiting;
        for next in [required, high, low] {
            assert!(next.now_or_never().is_some());
        }
    }

    #[bounded::test]
    async fn the_cpu_has_other_slots_than_the_rest() {
        let slots = LoadSlots::new(2, 1);
        let take = |device: &DeviceName| slots.take(device, Rank::default()).now_or_never();
        let (first, second) = (take(&DeviceName::Cpu), take(&DeviceName::Cpu));
        assert!(first.is_some() && second.is_some() && take(&DeviceName::Cpu).is_none());
        let (first, other) = (take(&gpu("a")), take(&gpu("b")));
        assert!(first.is_some() && other.is_some() && take(&gpu("a")).is_none());
    }

    #[bounded::test]
    async fn devices_do_not_wait_for_each_other() {
        let slots = LoadSlots::new(1, 1);
        let _held = slots.take(&DeviceName::Cpu, Rank::default()).await;
        assert!(
            slots
                .take(&gpu("a"), Rank::default())
                .now_or_never()
                .is_some()
        );
        assert!(
            slots
                .take(&DeviceName::Cpu, Rank::default())
                .now_or_never()
                .is_none()
        );
    }
}
