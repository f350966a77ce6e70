//! Decisions of the ledger.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn id(n: usize) -> ModelId {
    ModelId::parse(&format!("m{n}")).expect("a well-formed id")
}

fn capacity(bytes: u64) -> Capacity {
    Capacity {
        limit: bytes,
        available: u64::MAX,
    }
}

/// Decides about a model, and makes its reservation if it fits.
fn decide(
    ledger: &mut Ledger,
    id: &ModelId,
    need: u64,
    capacity: Capacity,
    candidates: &[ModelId],
) -> LedgerDecision {
    let decision = ledger.evaluate(need, capacity, candidates);
    if decision == LedgerDecision::Fits {
        ledger.reserve(id, need);
    }
    decision
}

/// A ledger in which models of these sizes have settled.
fn settled(sizes: &[u64]) -> Ledger {
    let mut ledger = Ledger::default();
    for (n, size) in sizes.iter().enumerate() {
        let decision = decide(&mut ledger, &id(n), *size, capacity(u64::MAX), &[]);
        assert_eq!(decision, LedgerDecision::Fits);
        ledger.measure(&id(n), *size);
        ledger.set_state(&id(n), ReservationState::Settled);
    }
    ledger
}

#[bounded::test]
fn a_need_is_admitted_with_headroom() {
    let mut ledger = Ledger::default();
    let refused = decide(&mut ledger, &id(0), 100, capacity(119), &[]);
    assert!(matches!(refused, LedgerDecision::Refused { free: 119, .. }));
    let admitted = decide(&mut ledger, &id(0), 100, capacity(120), &[]);
    assert_eq!(admitted, LedgerDecision::Fits);
    assert_eq!(ledger.free(capacity(120)), 0);
}

#[bounded::test]
fn what_a_load_was_promised_is_not_given_twice() {
    let mut ledger = Ledger::default();
    let both = Capacity {
        limit: 1000,
        available: 240,
    };
    assert_eq!(
        decide(&mut ledger, &id(0), 100, both, &[]),
        LedgerDecision::Fits
    );
    assert_eq!(
        decide(&mut ledger, &id(1), 100, both, &[]),
        LedgerDecision::Fits
    );
    // It may still settle for less.
    assert_eq!(
        decide(&mut ledger, &id(2), 100, both, &[]),
        LedgerDecision::Wait
    );
    assert!(matches!(
        decide(&mut ledger, &id(2), 500, both, &[]),
        LedgerDecision::Refused { .. }
    ));
}

#[bounded::test]
fn a_reservation_becomes_the_measurement_when_the_model_settles() {
    let mut ledger = Ledger::default();
    assert_eq!(
        decide(&mut ledger, &id(0), 100, capacity(200), &[]),
        LedgerDecision::Fits
    );
    ledger.measure(&id(0), 40);
    assert_eq!(ledger.free(capacity(200)), 80);
    ledger.set_state(&id(0), ReservationState::Settled);
    assert_eq!(ledger.free(capacity(200)), 160);
    ledger.release(&id(0));
    assert_eq!(ledger.free(capacity(200)), 200);
}

#[bounded::test]
fn no_more_is_evicted_than_frees_the_memory() {
    let mut ledger = settled(&[100, 100, 100]);
    let candidates = [id(1), id(0), id(2)];
    let one = decide(&mut ledger, &id(9), 80, capacity(300), &candidates);
    assert_eq!(one, LedgerDecision::Evict(vec![id(1)]));
    let two = decide(&mut ledger, &id(9), 160, capacity(300), &candidates);
    assert_eq!(two, LedgerDecision::Evict(vec![id(1), id(0)]));
    let none = decide(&mut ledger, &id(9), 300, capacity(300), &candidates);
    assert_eq!(
        none,
        LedgerDecision::Refused {
            free: 0,
            evictable: 300
        }
    );
}

#[bounded::test]
fn memory_that_is_on_its_way_back_is_waited_for() {
    let mut ledger = settled(&[100, 100]);
    ledger.set_state(&id(0), ReservationState::Leaving);
    let waits = decide(&mut ledger, &id(9), 80, capacity(200), &[id(1)]);
    assert_eq!(waits, LedgerDecision::Wait);
    ledger.set_state(&id(0), ReservationState::Stuck);
    let evicts = decide(&mut ledger, &id(9), 80, capacity(200), &[id(1)]);
    assert_eq!(evicts, LedgerDecision::Evict(vec![id(1)]));
}

#[bounded::test]
fn what_is_promised_or_going_is_not_held() {
    let mut ledger = settled(&[100, 100]);
    assert_eq!(
        decide(&mut ledger, &id(2), 50, capacity(260), &[]),
        LedgerDecision::Fits
    );
    assert_eq!(ledger.used_bytes(), 200);
    ledger.measure(&id(2), 10);
    assert_eq!(ledger.used_bytes(), 210);
    ledger.set_state(&id(0), ReservationState::Leaving);
    assert_eq!(ledger.used_bytes(), 110);
}

#[bounded::test]
fn what_a_dead_worker_held_is_waited_for_until_it_has_come_back() {
    let mut ledger = settled(&[100, 100]);
    let device = Capacity {
        limit: 300,
        available: 100,
    };
    assert_eq!(ledger.begin_reclaim(&id(0)), 100);
    assert_eq!(ledger.evaluate(100, device, &[]), LedgerDecision::Wait);
    let others = ledger.others(&id(1));
    assert_eq!((others.staying, others.unreclaimed), (Vec::new(), 100));
    // The model comes again before that: its own claim is another one.
    ledger.reserve(&id(0), 10);
    ledger.reclaimed(100);
    assert_eq!(ledger.admitted(&id(0)), Some(12));
    let others = ledger.others(&id(1));
    assert_eq!((others.staying, others.unreclaimed), (vec![(id(0), 0)], 0));
    assert!(matches!(
        ledger.evaluate(100, device, &[]),
        LedgerDecision::Wait | LedgerDecision::Refused { .. }
    ));
}

#[bounded::test]
fn a_model_without_memory_here_is_not_evicted_for_it() {
    let ledger = settled(&[100]);
    let candidates = [id(7), id(0)];
    let evicts = ledger.evaluate(80, capacity(100), &candidates);
    assert_eq!(evicts, LedgerDecision::Evict(vec![id(0)]));
}

#[bounded::test]
fn enormous_needs_do_not_overflow() {
    let mut ledger = settled(&[u64::MAX / 2]);
    assert!(matches!(
        decide(&mut ledger, &id(9), u64::MAX, capacity(u64::MAX), &[id(0)]),
        LedgerDecision::Refused { .. } | LedgerDecision::Evict(_)
    ));
}

proptest! {
    /// Whatever comes and goes, admitted models never claim more than there is.
    #[bounded::test]
    fn claims_never_exceed_the_limit(steps in prop::collection::vec((0..6usize, 0..4u8, 1..200u64), 1..200)) {
        let limit = 500;
        let mut ledger = Ledger::default();
        let mut loading = BTreeMap::new();
        let mut known = BTreeSet::new();
        for (n, what, need) in steps {
            match what {
                0 if !known.contains(&n)
                    && decide(&mut ledger, &id(n), need, capacity(limit), &[]) == LedgerDecision::Fits =>
                {
                    loading.insert(n, need);
                    known.insert(n);
                }
                1 => {
                    if let Some(need) = loading.remove(&n) {
                        ledger.measure(&id(n), need);
                        ledger.set_state(&id(n), ReservationState::Settled);
                    }
                }
                2 => {
                    loading.remove(&n);
                    ledger.set_state(&id(n), ReservationState::Leaving);
                }
                3 => {
                    loading.remove(&n);
                    known.remove(&n);
                    ledger.release(&id(n));
                }
                _ => {}
            }
            prop_assert!(ledger.sum(LedgerEntry::bytes) <= limit);
        }
    }
}
