//! A few slots, such as those at an engine, and who gets the next one: of those that wait, the one of
//! the highest rank, and of several, the one that came first.
//!
//! Invariant: while a slot is free, nobody waits.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// Slots, whose number may be changed.
#[derive(Debug)]
pub(super) struct Slots<R: Ord + Copy>(Mutex<Queue<R>>);

/// A slot. Dropped, it goes to the next one that waits.
#[derive(Debug)]
pub(super) struct Slot<R: Ord + Copy>(Arc<Slots<R>>);

#[derive(Debug)]
struct Queue<R: Ord + Copy> {
    capacity: usize,
    /// More than there are slots while some that were taken away are still in use.
    taken: usize,
    waiting: BTreeMap<QueuePosition<R>, oneshot::Sender<Slot<R>>>,
    /// How many have waited.
    arrivals: u64,
}

/// Who comes first: the least one.
type QueuePosition<R> = (Reverse<R>, u64);

/// Leaves the queue when dropped.
struct QueueTicket<R: Ord + Copy> {
    slots: Arc<Slots<R>>,
    position: QueuePosition<R>,
}

/// What whoever asks for a slot gets.
enum QueueOutcome<R: Ord + Copy> {
    Taken(Slot<R>),
    Waiting(QueueTicket<R>, oneshot::Receiver<Slot<R>>),
}

impl<R: Ord + Copy> Slots<R> {
    /// So many slots, all free.
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Queue {
            capacity,
            taken: 0,
            waiting: BTreeMap::new(),
            arrivals: 0,
        })))
    }

    /// A slot, if one is free.
    pub(super) fn try_take(self: &Arc<Self>) -> Option<Slot<R>> {
        let mut queue = self.lock();
        let free = queue.taken < queue.capacity;
        queue.taken += usize::from(free);
        free.then(|| Slot(self.clone()))
    }

    /// From now on there are `capacity` slots. One that is in use and too much goes when it is given back.
    pub(super) fn resize(self: &Arc<Self>, capacity: usize) {
        self.lock().capacity = capacity;
        while let Some(slot) = self.try_take() {
            let next = self.lock().waiting.pop_first();
            match next {
                // One that has just gone gives its slot back.
                Some((_, next)) => drop(next.send(slot)),
                None => {
                    // Nobody waits: the slot stays free.
                    drop(slot);
                    return;
                }
            }
        }
    }

    /// Waits for a slot, from this call on: whoever calls first is first, whoever is polled first. Safe to cancel: a
    /// slot that comes too late goes on to the next.
    pub(super) fn take(self: &Arc<Self>, rank: R) -> impl Future<Output = Slot<R>> + Send + use<R>
    where
        R: Send + Sync + 'static,
    {
        let slots = self.clone();
        let mut outcome = slots.queue_up(rank);
        async move {
            loop {
                match outcome {
                    QueueOutcome::Taken(slot) => return slot,
                    QueueOutcome::Waiting(ticket, slot) => {
                        let slot = slot.await;
                        drop(ticket);
                        // The sender is kept until it is used.
                        if let Ok(slot) = slot {
                            return slot;
                        }
                    }
                }
                outcome = slots.queue_up(rank);
            }
        }
    }

    /// A slot, or else a place in the queue.
    fn queue_up(self: &Arc<Self>, rank: R) -> QueueOutcome<R> {
        let mut queue = self.lock();
        if queue.taken < queue.capacity {
            queue.taken += 1;
            return QueueOutcome::Taken(Slot(self.clone()));
        }
        let position = (Reverse(rank), queue.arrivals);
        queue.arrivals += 1;
        let (sender, slot) = oneshot::channel();
        queue.waiting.insert(position, sender);
        let slots = self.clone();
        QueueOutcome::Waiting(QueueTicket { slots, position }, slot)
    }

    /// Who is next, or nobody; then the slot is free.
    fn next(&self) -> Option<oneshot::Sender<Slot<R>>> {
        let mut queue = self.lock();
        if queue.taken > queue.capacity {
            queue.taken -= 1;
            return None;
        }
        let next = queue.waiting.pop_first();
        if next.is_none() {
            queue.taken -= 1;
        }
        next.map(|(_, sender)| sender)
    }

    fn lock(&self) -> MutexGuard<'_, Queue<R>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Ord + Copy> Drop for Slot<R> {
    fn drop(&mut self) {
        if let Some(next) = self.0.next() {
            // One that has just gone gives its slot back: what was not taken is dropped here.
            let _ = next.send(Self(self.0.clone()));
        }
    }
}

impl<R: Ord + Copy> Drop for QueueTicket<R> {
    fn drop(&mut self) {
        self.slots.lock().waiting.remove(&self.position);
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use tokio::sync::mpsc;

    use super::*;

    /// Lets everybody that can go on do so.
    async fn let_all_proceed() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[bounded::test]
    async fn the_highest_rank_goes_first_and_then_who_came_first() {
        let slots = Slots::new(1);
        let held = slots.try_take().expect("a free slot");
        let (served, mut order) = mpsc::channel(5);
        let waiting = [(1, 0), (2, 5), (3, -1), (4, 5), (5, 0)].map(|(name, priority)| {
            let (slots, served) = (slots.clone(), served.clone());
            async move {
                let slot = slots.take(priority).await;
                served.try_send(name).expect("listening");
                drop(slot);
            }
        });
        let release = async {
            let_all_proceed().await;
            drop(held);
        };
        tokio::join!(join_all(waiting), release);
        let order: Vec<u32> = std::iter::from_fn(|| order.try_recv().ok()).collect();
        assert_eq!(order, [2, 4, 1, 5, 3]);
        assert!(slots.try_take().is_some());
        assert_eq!(slots.lock().waiting.len(), 0);
    }

    #[bounded::test]
    async fn who_goes_away_loses_no_slot() {
        let slots = Slots::new(2);
        let (first, second) = (slots.try_take(), slots.try_take());
        assert!(first.is_some() && second.is_some() && slots.try_take().is_none());
        let mut gone: Vec<_> = (0..10).map(|n| Box::pin(slots.take(n))).collect();
        for waiting in &mut gone {
            assert!(futures::poll!(waiting).is_pending());
        }
        // Half of them go while they wait, half of them with a slot in their hands.
        gone.truncate(5);
        drop((first, second));
        drop(gone);
        assert_eq!(slots.lock().taken, 0);
        assert_eq!(slots.lock().waiting.len(), 0);
        let taken = join_all([slots.take(0), slots.take(0)]).await;
        assert!(slots.try_take().is_none());
        drop(taken);
        assert_eq!(slots.lock().taken, 0);
    }

    #[bounded::test]
    async fn who_asks_first_is_first_whoever_is_polled_first() {
        let slots = Slots::new(1);
        let (first, second) = (slots.take(0), slots.take(0));
        let mut second = Box::pin(second);
        assert!(futures::poll!(&mut second).is_pending());
        drop(first.await);
        drop(second.await);
        // One that is never polled gives its slot back.
        drop(slots.take(0));
        assert!(slots.try_take().is_some());
    }

    #[bounded::test]
    async fn a_newcomer_does_not_overtake() {
        let slots = Slots::new(1);
        let held = slots.try_take();
        let mut waiting = Box::pin(slots.take(i32::MIN));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(held);
        assert!(slots.try_take().is_none());
        drop(waiting.await);
        assert!(slots.try_take().is_some());
    }

    #[bounded::test]
    async fn removed_slots_disappear_when_they_are_returned() {
        let slots = Slots::<i32>::new(2);
        let (first, second) = (slots.try_take(), slots.try_take());
        slots.resize(1);
        drop(first);
        assert!(slots.try_take().is_none());
        drop(second);
        assert!(slots.try_take().is_some());
    }

    #[bounded::test]
    async fn added_slots_go_to_those_that_wait() {
        let slots = Slots::new(1);
        let _held = slots.try_take();
        let mut waiting = [Box::pin(slots.take(0)), Box::pin(slots.take(0))];
        for one in &mut waiting {
            assert!(futures::poll!(one).is_pending());
        }
        slots.resize(4);
        let taken = join_all(waiting).await;
        assert_eq!(taken.len(), 2);
        let last = slots.try_take();
        assert!(last.is_some() && slots.try_take().is_none());
    }
}
