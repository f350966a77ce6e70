//! A lock for each key that somebody wants something of.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// A key that nobody else has locked, until this is dropped.
pub type KeyGuard = OwnedMutexGuard<()>;

/// The locks of all keys that somebody has or waits for. Others are forgotten.
#[derive(Debug)]
pub struct KeyedLocks<K>(Mutex<HashMap<K, Weak<AsyncMutex<()>>>>);

impl<K: Eq + Hash> KeyedLocks<K> {
    /// Waits until nobody has `key`, in the order of those who come. Safe to cancel.
    pub async fn lock(&self, key: K) -> KeyGuard {
        self.of(key).lock_owned().await
    }

    fn of(&self, key: K) -> Arc<AsyncMutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(&key).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(key, Arc::downgrade(&lock));
        lock
    }
}

impl<K> Default for KeyedLocks<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt;

    use super::*;

    impl KeyedLocks<&str> {
        fn used(&self) -> usize {
            let locks = self.0.lock().expect("nobody panicked");
            locks
                .values()
                .filter(|lock| lock.strong_count() > 0)
                .count()
        }
    }

    #[bounded::test]
    async fn a_key_has_one_owner_at_a_time_and_others_are_free() {
        let locks = KeyedLocks::default();
        let held = locks.lock("a").await;
        let mut waiting = pin!(locks.lock("a"));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(locks.lock("b").now_or_never().is_some());
        drop(held);
        assert!(waiting.now_or_never().is_some());
    }

    #[bounded::test]
    async fn a_lock_goes_with_the_last_who_has_it_or_waits_for_it() {
        let locks = KeyedLocks::default();
        let held = locks.lock("a").await;
        {
            let mut given_up = pin!(locks.lock("a"));
            assert!(given_up.as_mut().now_or_never().is_none());
            assert_eq!(locks.used(), 1);
        }
        assert_eq!(locks.used(), 1);
        drop(held);
        assert_eq!(locks.used(), 0);
        drop(locks.lock("b").await);
        let locks = locks.0.lock().expect("nobody panicked");
        assert_eq!(locks.len(), 1, "what nobody uses is forgotten");
    }
}
