//! What a worker says of its engine while it serves.

use std::{error::Error, io, time::Duration};

use hangar_worker_protocol::v1::WatchStatsRequest;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use super::{Conversation, Disconnected};
use crate::worker::Client;

/// Time that a worker which is ready has to tell what it has of its device.
const FIRST_STATS_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause before a call that broke off is made anew.
const RETRY_DELAY: Duration = Duration::from_millis(50);

impl Conversation<'_> {
    /// Hears what the model, which has just been loaded, has of its device, if it is on one: that is what it
    /// claims from READY on.
    pub(super) async fn record_device_memory(&self, client: Client) {
        if self.on_device {
            let _ = timeout(FIRST_STATS_TIMEOUT, self.read_stats_once(client)).await;
            let devices = self.context.devices.system();
            let _ = devices.fresh_devices(FIRST_STATS_TIMEOUT).await;
        }
    }

    /// Hears the engine's figures once.
    async fn read_stats_once(&self, mut client: Client) -> Result<(), Status> {
        let stats = client.watch_stats(WatchStatsRequest::default()).await?;
        if let Some(reported) = stats.into_inner().message().await? {
            self.heartbeat.record(&reported);
        }
        Ok(())
    }

    /// Follows the engine's figures. A call that breaks off is made anew, on a new connection if need be: the worker
    /// is given up when it ends the stream itself, when nobody listens on its socket any more, or when nothing was
    /// heard of it for as long as it may hang.
    pub(super) async fn follow_stats(&self, mut client: Client) -> Result<(), Disconnected> {
        let limit = self.context.limits.hang_timeout;
        let interval = (limit / 8).clamp(Duration::from_millis(50), Duration::from_secs(1));
        let mut received = Instant::now();
        loop {
            match self.read_stats(&mut client, interval, &mut received).await {
                Err(status) if received.elapsed() < limit && !is_unreachable(&status) => {
                    tracing::warn!(
                        model = %self.model,
                        error = &status as &dyn Error,
                        "a call to the worker broke off"
                    );
                    sleep(RETRY_DELAY).await;
                }
                Ok(()) | Err(_) => return Err(Disconnected::ConnectionLost),
            }
        }
    }

    /// Follows the engine's figures until the worker ends the stream.
    async fn read_stats(
        &self,
        client: &mut Client,
        interval: Duration,
        received: &mut Instant,
    ) -> Result<(), Status> {
        let interval = prost_types::Duration::try_from(interval).ok();
        let stats = client.watch_stats(WatchStatsRequest { interval }).await?;
        let mut stats = stats.into_inner();
        while let Some(reported) = stats.message().await? {
            self.heartbeat.record(&reported);
            *received = Instant::now();
        }
        Ok(())
    }
}

/// Whether a call failed because there is no listener on the worker's socket.
fn is_unreachable(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            use io::ErrorKind::{ConnectionRefused, NotFound};
            return matches!(error.kind(), ConnectionRefused | NotFound);
        }
        cause = error.source();
    }
    false
}
