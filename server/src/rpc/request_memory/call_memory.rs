//! The memory that all calls have in common, and what one has of it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use hangar_client::server_codec::RequestBudget;
use tokio::sync::Semaphore;
use tonic::Status;

use crate::rpc::error::ApiError;

/// The memory of all calls, in units.
#[derive(Clone, Debug)]
pub(super) struct RequestMemory {
    pub(super) free: Arc<Semaphore>,
    limit: usize,
}

/// What one call has of it, which it gives back at its end.
pub struct CallMemory {
    memory: RequestMemory,
    /// For each whole unit in them one is taken.
    bytes: AtomicUsize,
    /// Of them, those of what its request became.
    decoded: AtomicUsize,
    /// Of them, those of the longest message as it came, and as it was unpacked where it came compressed: buffers that were
    /// that long stay so.
    buffered: AtomicUsize,
    unpacked: AtomicUsize,
    has_many: AtomicBool,
}

/// What memory is counted in.
pub(super) const UNIT: usize = 4 << 10;

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
            decoded: AtomicUsize::new(0),
            buffered: AtomicUsize::new(0),
            unpacked: AtomicUsize::new(0),
            has_many: AtomicBool::new(false),
        }
    }

    /// Bytes that all calls have together.
    pub(super) fn limit(&self) -> usize {
        self.memory.limit
    }

    /// The call has any number of requests, which may come long after each other.
    pub(in crate::rpc) fn expect_many(&self) {
        self.has_many.store(true, Relaxed);
    }

    pub(super) fn has_many(&self) -> bool {
        self.has_many.load(Relaxed)
    }

    /// The request is not needed for the rest of the call.
    pub(in crate::rpc) fn drop_request(&self) {
        self.give_back(self.decoded.swap(0, Relaxed));
    }

    /// Takes so many bytes.
    ///
    /// # Errors
    ///
    /// When there are not so many left, or never will be.
    pub(super) fn take(&self, bytes: usize) -> Result<(), Status> {
        let limit = self.memory.limit;
        // Units are those of one change of `bytes`: requests of a stream come and go at the same time.
        loop {
            let before = self.bytes.load(Relaxed);
            let after = before + bytes;
            if bytes > limit || (after > limit && !self.has_many()) {
                return Err(ApiError::RequestTooLarge { limit }.into());
            }
            // So many units nobody has.
            let units = u32::try_from(after / UNIT - before / UNIT).unwrap_or(u32::MAX);
            let Ok(permit) = self.memory.free.try_acquire_many(units) else {
                return Err(ApiError::RequestMemory { limit }.into());
            };
            let changed = self.bytes.compare_exchange(before, after, Relaxed, Relaxed);
            if changed.is_ok() {
                permit.forget();
                return Ok(());
            }
        }
    }

    /// Gives back what is not needed any more.
    pub(super) fn give_back(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Relaxed);
        let units = before / UNIT - (before - bytes) / UNIT;
        self.memory.free.add_permits(units);
    }

    /// Takes what a message of which so many bytes have come needs beyond those before it.
    ///
    /// # Errors
    ///
    /// As [`Self::take`].
    pub(super) fn buffer(&self, came: usize) -> Result<(), Status> {
        self.raise(&self.buffered, came)
    }

    /// As [`Self::buffer`], of a whole message after it was unpacked, if it was.
    pub(super) fn unpack(&self, message: usize) -> Result<(), Status> {
        match message <= self.buffered.load(Relaxed) {
            true => Ok(()),
            false => self.raise(&self.unpacked, message),
        }
    }

    /// The body is gone, and its buffers with it.
    pub(super) fn drop_buffers(&self) {
        let buffered = self.buffered.swap(0, Relaxed) + self.unpacked.swap(0, Relaxed);
        self.give_back(buffered);
    }

    /// One task raises a mark, which reads the body.
    fn raise(&self, mark: &AtomicUsize, to: usize) -> Result<(), Status> {
        let more = to.saturating_sub(mark.load(Relaxed));
        if more > 0 {
            self.take(more)?;
            mark.fetch_add(more, Relaxed);
        }
        Ok(())
    }
}

impl RequestBudget for CallMemory {
    fn take_request(&self, message: usize, parts: usize) -> Result<(), Status> {
        self.unpack(message)?;
        self.take(message + parts)?;
        self.decoded.fetch_add(message + parts, Relaxed);
        Ok(())
    }
}

impl Drop for CallMemory {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.give_back(bytes);
    }
}

impl fmt::Debug for CallMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallMemory")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
