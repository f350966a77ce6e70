//! The memory of a call with many requests, each of which gives back its own.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hangar_client::server_codec::{RequestRoom, within_room};
use tonic::Status;

use super::call_memory::CallMemory;

/// Where the requests of a call take their memory from, one after the other.
#[derive(Clone)]
pub(in crate::rpc) struct StreamMemory {
    call: Arc<CallMemory>,
    decoded: Arc<Decoded>,
}

/// What the request that was decoded last has taken.
struct Decoded {
    call: Arc<CallMemory>,
    bytes: AtomicUsize,
    /// Bytes for which there was no memory.
    missing: AtomicUsize,
}

/// The memory of one request.
pub(in crate::rpc) struct RequestClaim {
    call: Arc<CallMemory>,
    bytes: usize,
}

impl StreamMemory {
    pub(super) fn new(call: Arc<CallMemory>) -> Self {
        let decoded = Decoded {
            call: call.clone(),
            bytes: AtomicUsize::new(0),
            missing: AtomicUsize::new(0),
        };
        Self {
            call,
            decoded: Arc::new(decoded),
        }
    }

    /// What `reading` comes to, whose requests take their memory here.
    pub(in crate::rpc) async fn within<F: Future>(&self, reading: F) -> F::Output {
        within_room(self.decoded.clone(), reading).await
    }

    /// The memory of the request that was decoded last; nothing where there is none, so that the request has to go.
    pub(in crate::rpc) fn claim(&self) -> Option<RequestClaim> {
        let claim = RequestClaim {
            call: self.call.clone(),
            bytes: self.decoded.bytes.swap(0, Ordering::Relaxed),
        };
        let missing = self.decoded.missing.swap(0, Ordering::Relaxed);
        (missing == 0).then_some(claim)
    }

    /// Bytes that all calls have together.
    pub(in crate::rpc) fn limit(&self) -> usize {
        self.call.limit()
    }

    /// The memory of a call of its own.
    #[cfg(test)]
    pub(in crate::rpc) fn of(limit: usize) -> Self {
        let memory = super::call_memory::RequestMemory::new(limit);
        Self::new(Arc::new(CallMemory::new(memory)))
    }
}

impl RequestRoom for Decoded {
    /// Refuses nothing: an error would end the whole call, and not the one request.
    fn take(&self, bytes: usize) -> Result<(), Status> {
        let of = match self.call.take(bytes) {
            Ok(()) => &self.bytes,
            Err(_) => &self.missing,
        };
        of.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for RequestClaim {
    fn drop(&mut self) {
        self.call.give_back(self.bytes);
    }
}

impl fmt::Debug for StreamMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamMemory").finish_non_exhaustive()
    }
}

impl fmt::Debug for RequestClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestClaim")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::call_memory::UNIT, *};

    #[test]
    fn each_request_gives_back_its_own_and_the_one_too_many_goes() {
        let memory = StreamMemory::of(4 * UNIT);
        let decode = |bytes| {
            memory.decoded.take(bytes).expect("never refused");
            memory.claim()
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
