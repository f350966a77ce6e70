//! Places among the loads that run at the same time on a device.
//!
//! Invariant: no more places of a device are taken than it has, and whoever waits with the highest priority
//! is next; among equals, who came first.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BinaryHeap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::devices::CPU;

/// The places of all devices. Cheap to share.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    queues: Arc<Mutex<Queues>>,
}

/// Who loads before whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Required models go first.
    pub(super) required: bool,
    /// Then those of higher priority.
    pub(super) priority: i32,
}

/// A place that is taken, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    queues: Arc<Mutex<Queues>>,
    device: Arc<str>,
}

#[derive(Debug)]
struct Queues {
    /// Places that the CPU has.
    cpu: usize,
    /// Places that any other device has.
    accelerator: usize,
    devices: BTreeMap<Arc<str>, Device>,
    arrivals: u64,
}

#[derive(Debug, Default)]
struct Device {
    taken: usize,
    waiting: BinaryHeap<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    rank: Rank,
    arrival: u64,
    turn: oneshot::Sender<Slot>,
}

// === impl Slots ===

impl Slots {
    /// So many places on the CPU and on each other device, at least one.
    pub(super) fn new(cpu: usize, accelerator: usize) -> Self {
        Self {
            queues: Arc::new(Mutex::new(Queues {
                cpu: cpu.max(1),
                accelerator: accelerator.max(1),
                devices: BTreeMap::new(),
                arrivals: 0,
            })),
        }
    }

    /// Queues for a place on `device`. Whoever drops the receiver leaves the queue.
    pub(super) fn request(&self, device: &str, rank: Rank) -> oneshot::Receiver<Slot> {
        let (turn, place) = oneshot::channel();
        let mut queues = lock(&self.queues);
        let arrival = queues.arrivals;
        queues.arrivals += 1;
        let device: Arc<str> = device.into();
        queues
            .devices
            .entry(device.clone())
            .or_default()
            .waiting
            .push(Waiting {
                rank,
                arrival,
                turn,
            });
        drop(queues);
        serve(&self.queues, &device);
        place
    }
}

/// Gives free places of `device` to those who are next.
fn serve(queues: &Arc<Mutex<Queues>>, device: &Arc<str>) {
    loop {
        let mut locked = lock(queues);
        let places = if **device == *CPU {
            locked.cpu
        } else {
            locked.accelerator
        };
        let Some(of_device) = locked.devices.get_mut(device) else {
            return;
        };
        if of_device.taken >= places {
            return;
        }
        let Some(next) = of_device.waiting.pop() else {
            return;
        };
        if next.turn.is_closed() {
            continue;
        }
        of_device.taken += 1;
        drop(locked);
        let slot = Slot {
            queues: queues.clone(),
            device: device.clone(),
        };
        // Whoever has left the queue this moment gives the place back by dropping it.
        let _ = next.turn.send(slot);
    }
}

fn lock(queues: &Mutex<Queues>) -> MutexGuard<'_, Queues> {
    queues.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Slot ===

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(device) = lock(&self.queues).devices.get_mut(&self.device) {
            device.taken -= 1;
        }
        serve(&self.queues, &self.device);
    }
}

// === impl Waiting ===

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_arrival = other.arrival.cmp(&self.arrival);
        self.rank.cmp(&other.rank).then(by_arrival)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(priority: i32) -> Rank {
        Rank {
            required: false,
            priority,
        }
    }

    #[tokio::test]
    async fn the_highest_rank_is_next_and_among_equals_the_first() {
        let slots = Slots::new(1, 1);
        let held = slots.request("cpu", rank(0)).await.expect("free");
        let required = Rank {
            required: true,
            priority: -5,
        };
        let waiting = [rank(1), rank(2), rank(2), required].map(|rank| slots.request("cpu", rank));
        let [mut low, mut first, mut second, mut required] = waiting;
        assert!(required.try_recv().is_err());
        drop(held);
        let taken = required.try_recv().expect("required models go first");
        drop(taken);
        let taken = first.try_recv().expect("the first of the higher priority");
        assert!(second.try_recv().is_err() && low.try_recv().is_err());
        drop(taken);
        drop(second.try_recv().expect("its turn"));
        drop(low.try_recv().expect("its turn"));
    }

    #[tokio::test]
    async fn who_leaves_the_queue_holds_nobody_up() {
        let slots = Slots::new(1, 1);
        let held = slots.request("cpu", rank(0)).await.expect("free");
        for _ in 0..10_000 {
            drop(slots.request("cpu", rank(9)));
        }
        let next = slots.request("cpu", rank(0));
        drop(held);
        assert!(next.await.is_ok());
    }

    #[tokio::test]
    async fn devices_do_not_wait_for_each_other() {
        let slots = Slots::new(1, 1);
        let _held = slots.request("cpu", rank(0)).await.expect("free");
        assert!(slots.request("cuda:0", rank(0)).try_recv().is_ok());
    }

    #[tokio::test]
    async fn the_cpu_has_other_places_than_the_rest() {
        let slots = Slots::new(2, 1);
        let request = |device| slots.request(device, rank(0)).try_recv();
        let (first, second) = (request("cpu"), request("cpu"));
        assert!(first.is_ok() && second.is_ok() && request("cpu").is_err());
        let (first, other) = (request("cuda:a"), request("cuda:b"));
        assert!(first.is_ok() && other.is_ok() && request("cuda:a").is_err());
    }

    #[tokio::test]
    async fn a_place_that_nobody_took_is_given_back() {
        let slots = Slots::new(1, 1);
        // Granted at once, and dropped with the receiver.
        drop(slots.request("cpu", rank(0)));
        assert!(slots.request("cpu", rank(0)).try_recv().is_ok());
    }
}
