//! The memory of a call with many requests, each of which gives back its own.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use hangar_client::server_codec::{RequestBudget, within_budget};
use tonic::Status;

use super::call_memory::CallMemory;

/// Where the requests of a call take their memory from, one after the other.
#[derive(Clone)]
pub(in crate::rpc) struct StreamMemory(Arc<Decoded>);

/// What the request that was decoded last has taken.
struct Decoded {
    call: Arc<CallMemory>,
    bytes: AtomicUsize,
    /// Whether there was no memory for it.
    is_missing: AtomicBool,
}

/// The memory of one request.
pub(in crate::rpc) struct HeldMemory {
    call: Arc<CallMemory>,
    bytes: usize,
}

impl StreamMemory {
    /// Of this call.
    pub(in crate::rpc) fn new(call: Arc<CallMemory>) -> Self {
        call.expect_many();
        Self(Arc::new(Decoded {
            call,
            bytes: AtomicUsize::new(0),
            is_missing: AtomicBool::new(false),
        }))
    }

    /// What `reading` comes to, whose requests take their memory here.
    pub(in crate::rpc) async fn within<F: Future>(&self, reading: F) -> F::Output {
        within_budget(self.0.clone(), reading).await
    }

    /// The memory of the request that was decoded last; nothing where there is none, so that the request has to go.
    pub(in crate::rpc) fn hold_decoded(&self) -> Option<HeldMemory> {
        let held = HeldMemory {
            call: self.0.call.clone(),
            bytes: self.0.bytes.swap(0, Relaxed),
        };
        let is_missing = self.0.is_missing.swap(false, Relaxed);
        (!is_missing).then_some(held)
    }

    /// So many bytes more; nothing where there are none.
    pub(in crate::rpc) fn hold(&self, bytes: usize) -> Option<HeldMemory> {
        let call = self.0.call.clone();
        call.take(bytes).ok()?;
        Some(HeldMemory { call, bytes })
    }

    /// Bytes that all calls have together.
    pub(in crate::rpc) fn limit(&self) -> usize {
        self.0.call.limit()
    }

    /// The memory of a call of its own.
    #[cfg(test)]
    pub(in crate::rpc) fn of(limit: usize) -> Self {
        let memory = super::call_memory::RequestMemory::new(limit);
        Self::new(Arc::new(CallMemory::new(memory)))
    }
}

impl RequestBudget for Decoded {
    /// Refuses no single request: an error would end the whole call. Buffers, which stay, are no single request's.
    fn take_request(&self, message: usize, parts: usize) -> Result<(), Status> {
        self.call.unpack(message)?;
        let bytes = message + parts;
        match self.call.take(bytes) {
            Ok(()) => _ = self.bytes.fetch_add(bytes, Relaxed),
            Err(_) => self.is_missing.store(true, Relaxed),
        }
        Ok(())
    }
}

impl Drop for HeldMemory {
    fn drop(&mut self) {
        self.call.give_back(self.bytes);
    }
}

impl fmt::Debug for StreamMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamMemory").finish_non_exhaustive()
    }
}

impl fmt::Debug for HeldMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldMemory")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::call_memory::UNIT, *};

    #[bounded::test]
    fn each_request_gives_back_its_own_and_the_one_too_many_goes() {
        let memory = StreamMemory::of(5 * UNIT);
        let decode = |bytes| {
            memory.0.call.buffer(UNIT).expect("memory");
            let taken = memory.0.take_request(UNIT, bytes - UNIT);
            taken.expect("not refused");
            memory.hold_decoded()
        };
        let first = decode(2 * UNIT).expect("memory");
        let second = decode(2 * UNIT).expect("memory");
        assert!(decode(UNIT).is_none());
        drop(first);
        let third = decode(UNIT).expect("memory");
        drop((second, third));
        assert!(decode(4 * UNIT).is_some());
    }
}
