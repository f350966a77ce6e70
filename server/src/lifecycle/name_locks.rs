//! A lock for each name: for each id of a model, and each alias.
//!
//! Invariants: a lock is in the map for as long as somebody has it or waits for it. Whoever wants several takes them all at
//! once, in the order of the names, and no more while it has them: so nobody waits in a circle.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::model::ModelId;

/// The locks of all names that somebody wants something of.
#[derive(Debug, Default)]
pub(super) struct NameLocks(Mutex<BTreeMap<ModelId, NameLock>>);

/// Names that nobody else has locked, until this is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct LockedNames<'a>(Vec<LockedName<'a>>);

#[derive(Debug, Default)]
struct NameLock {
    lock: Arc<AsyncMutex<()>>,
    /// How many have it or wait for it.
    users: usize,
}

#[derive(Debug)]
struct LockedName<'a> {
    // Dropped first: nobody finds a lock that is held and not in the map.
    _guard: OwnedMutexGuard<()>,
    user: LockUser<'a>,
}

/// Somebody who has the lock of a name, or waits for it.
#[derive(Debug)]
struct LockUser<'a> {
    locks: &'a NameLocks,
    name: ModelId,
}

impl NameLocks {
    /// Locks all of `names`. Whoever has some locked already must not call it. Safe to cancel.
    pub(super) async fn lock(&self, names: impl IntoIterator<Item = ModelId>) -> LockedNames<'_> {
        let names: BTreeSet<_> = names.into_iter().collect();
        let mut locked = Vec::with_capacity(names.len());
        for name in names {
            locked.push(self.lock_one(name).await);
        }
        LockedNames(locked)
    }

    async fn lock_one(&self, name: ModelId) -> LockedName<'_> {
        let (user, lock) = self.join(name);
        LockedName {
            _guard: lock.lock_owned().await,
            user,
        }
    }

    /// The lock of `name`, and who is counted among its users from now on.
    fn join(&self, name: ModelId) -> (LockUser<'_>, Arc<AsyncMutex<()>>) {
        let mut locks = self.locks();
        let of_name = locks.entry(name.clone()).or_default();
        of_name.users += 1;
        let lock = of_name.lock.clone();
        (LockUser { locks: self, name }, lock)
    }

    fn locks(&self) -> MutexGuard<'_, BTreeMap<ModelId, NameLock>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LockedNames<'_> {
    /// Lets go of all names but `name`.
    pub(super) fn keep_only(&mut self, name: &ModelId) {
        self.0.retain(|locked| locked.user.name == *name);
    }
}

impl Drop for LockUser<'_> {
    fn drop(&mut self) {
        let mut locks = self.locks.locks();
        if let Some(lock) = locks.get_mut(&self.name) {
            lock.users -= 1;
            if lock.users == 0 {
                locks.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, time::Duration};

    use futures::{FutureExt, future::join};
    use tokio::time::timeout;

    use super::*;

    fn name(name: &str) -> ModelId {
        ModelId::parse(name).expect("a well-formed name")
    }

    fn names<const N: usize>(names: [&str; N]) -> [ModelId; N] {
        names.map(name)
    }

    #[bounded::test]
    async fn a_name_has_one_owner_at_a_time_and_others_are_free() {
        let locks = NameLocks::default();
        let held = locks.lock(names(["a"])).await;
        let mut waiting = pin!(locks.lock(names(["a"])));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(locks.lock(names(["b"])).now_or_never().is_some());
        drop(held);
        assert!(waiting.now_or_never().is_some());
    }

    #[bounded::test]
    async fn a_name_may_be_given_twice() {
        let locks = NameLocks::default();
        assert!(locks.lock(names(["a", "b", "a"])).now_or_never().is_some());
    }

    #[bounded::test]
    async fn a_lock_goes_with_the_last_who_uses_it_or_waits_for_it() {
        let locks = NameLocks::default();
        let held = locks.lock(names(["a", "b"])).await;
        assert_eq!(locks.locks().len(), 2);
        {
            let mut given_up = pin!(locks.lock(names(["b", "c"])));
            assert!(given_up.as_mut().now_or_never().is_none());
            assert_eq!(locks.locks()[&name("b")].users, 2);
        }
        assert_eq!(locks.locks()[&name("b")].users, 1);
        drop(held);
        assert!(locks.locks().is_empty());
    }

    #[bounded::test]
    async fn what_is_not_kept_is_free() {
        let locks = NameLocks::default();
        let mut held = locks.lock(names(["a", "b", "c"])).await;
        held.keep_only(&name("b"));
        assert!(locks.lock(names(["a", "c"])).now_or_never().is_some());
        assert!(locks.lock(names(["b"])).now_or_never().is_none());
    }

    #[bounded::test]
    async fn two_who_want_the_same_names_in_opposite_orders_both_get_them() {
        let locks = NameLocks::default();
        let held = locks.lock(names(["a"])).await;
        let one = async { drop(locks.lock(names(["a", "b"])).await) };
        let other = async { drop(locks.lock(names(["b", "a"])).await) };
        let mut both = pin!(join(one, other));
        assert!(both.as_mut().now_or_never().is_none());
        // Neither has the last name and waits for the first.
        assert!(locks.lock(names(["b"])).now_or_never().is_some());
        drop(held);
        let ended = timeout(Duration::from_secs(10), both).await;
        assert!(ended.is_ok());
        assert!(locks.locks().is_empty());
    }
}
