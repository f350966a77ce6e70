//! The memory that all calls have in common, and what one has of it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use hangar_client::server_codec::RequestRoom;
use tokio::sync::Semaphore;
use tonic::Status;

use crate::rpc::error::ApiError;

/// The memory of all calls, in units.
#[derive(Clone, Debug)]
pub(in crate::rpc) struct RequestMemory {
    pub(super) free: Arc<Semaphore>,
    limit: usize,
}

/// What one call has of it, which it gives back at its end.
pub struct CallMemory {
    memory: RequestMemory,
    /// For each whole unit in them one is taken.
    bytes: AtomicUsize,
}

/// What memory is counted in.
pub(super) const UNIT: usize = 64 << 10;

impl RequestMemory {
    /// Of `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        let units = (limit / UNIT).min(Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(units)),
            limit,
        }
    }
}

impl CallMemory {
    /// A call that has nothing yet.
    pub(super) fn new(memory: RequestMemory) -> Self {
        Self {
            memory,
            bytes: AtomicUsize::new(0),
        }
    }

    /// Bytes that all calls have together.
    pub(super) fn limit(&self) -> usize {
        self.memory.limit
    }

    /// Gives back what is not needed any more.
    pub(super) fn give_back(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        let units = before / UNIT - (before - bytes) / UNIT;
        self.memory.free.add_permits(units);
    }
}

impl RequestRoom for CallMemory {
    fn take(&self, bytes: usize) -> Result<(), Status> {
        // Units are those of one change of `bytes`: requests of a stream come and go at the same time.
        loop {
            let before = self.bytes.load(Ordering::Relaxed);
            let after = before + bytes;
            // So many units nobody has.
            let units = u32::try_from(after / UNIT - before / UNIT).unwrap_or(u32::MAX);
            let Ok(permit) = self.memory.free.try_acquire_many(units) else {
                let limit = self.memory.limit;
                return Err(ApiError::RequestMemory { limit }.into());
            };
            let order = Ordering::Relaxed;
            let changed = self.bytes.compare_exchange(before, after, order, order);
            if changed.is_ok() {
                permit.forget();
                return Ok(());
            }
        }
    }
}

impl Drop for CallMemory {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.give_back(bytes);
    }
}
