//! Calls that go on when their callers do not wait any more.
//!
//! What such a call commits, the model's driver and its watchers have to hear of: a caller that goes, or whose deadline
//! passes, ends its waiting and not the call.

use std::sync::Arc;

use hangar_client::server_codec;
use tokio::sync::Semaphore;
use tonic::Status;
use tracing::Instrument;

use super::error::ApiError;
use crate::supervisor::Tasks;

/// Calls that are under way, of which there are so many at most.
#[derive(Clone, Debug)]
pub(super) struct DetachedCalls {
    tasks: Tasks,
    permits: Arc<Semaphore>,
}

/// Calls that may be under way.
pub(super) const MAX_CALLS: usize = 10_000;

impl DetachedCalls {
    /// Calls that run as `tasks`.
    pub(super) fn new(tasks: Tasks) -> Self {
        Self {
            tasks,
            permits: Arc::new(Semaphore::new(MAX_CALLS)),
        }
    }

    /// Waits for `work`, which comes to its end without that too.
    ///
    /// # Errors
    ///
    /// Those of `work`; RESOURCE_EXHAUSTED when too many calls are under way.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) -> Result<T, Status> {
        let permit = self.permits.clone().try_acquire_owned();
        let permit = permit.map_err(|_| ApiError::Limit {
            what: "calls that change something",
            limit: MAX_CALLS,
        })?;
        let memory = server_codec::budget();
        let run = async move {
            let _kept = (permit, memory);
            work.await
        };
        let finished = self.tasks.finish(run.in_current_span()).await;
        finished.unwrap_or_else(|| Err(broken_off()))
    }
}

/// What a caller hears of a call that panicked.
pub(super) fn broken_off() -> Status {
    ApiError::Internal("a call was broken off".to_owned()).into()
}
