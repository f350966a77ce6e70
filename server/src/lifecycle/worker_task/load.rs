//! What a worker says of its load.

use std::error::Error;

use tokio::time::{Instant, sleep};

use super::{Disconnected, WorkerExchange, WorkerReport, heartbeat::RETRY_DELAY, report};
use crate::worker::{CallError, LoadEvent, WorkerClient};

/// What the calls of one load have heard.
#[derive(Debug, Default)]
struct SeenEvents {
    /// Since when no call comes through.
    broken: Option<Instant>,
    /// That the engine is built.
    built: bool,
}

/// A call of the load that ended before the load did.
enum LoadCallEnd {
    /// The worker gave the reason, or broke off by itself.
    ByWorker(Disconnected),
    /// The call broke.
    Broken(CallError),
}

impl WorkerExchange<'_> {
    /// Has the worker load its model. The load is the worker's: a call that breaks off is made anew, on a new connection
    /// if need be, and goes on where the load is. The worker is given up when it ends the call itself, when nobody
    /// listens on its socket any more, or when no call comes through for as long as it may hang. Gives the longest sequence in
    /// tokens, where it is not as the worker has reported before.
    pub(super) async fn load(&self, client: WorkerClient) -> Result<Option<u32>, Disconnected> {
        let limit = self.context.limits.hang_timeout;
        let mut seen = SeenEvents::default();
        loop {
            let error = match self.follow_load(client.clone(), &mut seen).await {
                Ok(context_length) => return Ok(context_length),
                Err(LoadCallEnd::ByWorker(disconnected)) => return Err(disconnected),
                Err(LoadCallEnd::Broken(error)) => error,
            };
            let since = *seen.broken.get_or_insert_with(Instant::now);
            let is_over = error.is_answer() || error.is_unreachable();
            if is_over || since.elapsed() >= limit {
                return Err(Disconnected::ConnectionLost);
            }
            tracing::warn!(
                model = %self.config.model,
                error = &error as &dyn Error,
                "the call that loads the model broke off"
            );
            sleep(RETRY_DELAY).await;
        }
    }

    async fn follow_load(
        &self,
        mut client: WorkerClient,
        seen: &mut SeenEvents,
    ) -> Result<Option<u32>, LoadCallEnd> {
        let mut load = client.load().await.map_err(LoadCallEnd::Broken)?;
        seen.broken = None;
        loop {
            let event = load.next().await.map_err(LoadCallEnd::Broken)?;
            match event.ok_or(LoadCallEnd::ByWorker(Disconnected::ConnectionLost))? {
                LoadEvent::EngineBuilt(metadata) if !seen.built => {
                    seen.built = true;
                    if let Some(lease) = self.lease.get() {
                        lease.built(metadata.prepared).await;
                    }
                    report(self.reports, WorkerReport::EngineBuilt(metadata)).await;
                }
                LoadEvent::EngineBuilt(_) => {}
                LoadEvent::Warmed { context_length } => return Ok(context_length),
                LoadEvent::Failed(failure) => {
                    return Err(LoadCallEnd::ByWorker(Disconnected::Failed(failure)));
                }
            }
        }
    }
}
