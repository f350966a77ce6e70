//! A lock for each name: for each id of a model, and each alias.
//!
//! Invariant: whoever wants several takes them all at once, in the order of the names, and no more while it has them. So
//! nobody waits in a circle.

use std::collections::BTreeSet;

use crate::{
    keyed_locks::{KeyGuard, KeyedLocks},
    model::ModelId,
};

/// The locks of all names that somebody wants something of.
#[derive(Debug, Default)]
pub(super) struct NameLocks(KeyedLocks<ModelId>);

/// Names that nobody else has locked, until this is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct LockedNames(Vec<(ModelId, KeyGuard)>);

impl NameLocks {
    /// Locks all of `names`. Whoever has some locked already must not call it. Safe to cancel.
    pub(super) async fn lock(&self, names: impl IntoIterator<Item = ModelId>) -> LockedNames {
        let names: BTreeSet<_> = names.into_iter().collect();
        let mut locked = Vec::with_capacity(names.len());
        for name in names {
            let guard = self.0.lock(name.clone()).await;
            locked.push((name, guard));
        }
        LockedNames(locked)
    }
}

impl LockedNames {
    /// Lets go of all names but `name`.
    pub(super) fn keep_only(&mut self, name: &ModelId) {
        self.0.retain(|(locked, _)| locked == name);
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
    async fn a_name_may_be_given_twice() {
        let locks = NameLocks::default();
        assert!(locks.lock(names(["a", "b", "a"])).now_or_never().is_some());
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
    }
}
