//! What a worker says of its engine while it serves.

use std::{error::Error, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::{Disconnected, WorkerExchange};
use crate::{
    model::DeviceName,
    worker::{CallError, WorkerClient},
};

/// Time that a worker which is ready has to report what it has of its device.
const FIRST_STATS_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause before a call that broke off is made anew.
pub(super) const RETRY_DELAY: Duration = Duration::from_millis(50);

impl WorkerExchange<'_> {
    /// Hears what the model, which has just been loaded, has of its device, if it is on one: that is what it
    /// claims from READY on.
    pub(super) async fn record_device_memory(&self, client: WorkerClient) {
        if self.config.device != DeviceName::Cpu {
            let _ = timeout(FIRST_STATS_TIMEOUT, self.read_stats_once(client)).await;
            let devices = self.context.devices.system();
            let _ = devices.fresh_devices(FIRST_STATS_TIMEOUT).await;
        }
    }

    /// Hears the engine's figures once.
    async fn read_stats_once(&self, mut client: WorkerClient) -> Result<(), CallError> {
        let mut stats = client.watch_stats(FIRST_STATS_TIMEOUT).await?;
        if let Some(reported) = stats.next().await? {
            self.heartbeat.record(&reported);
        }
        Ok(())
    }

    /// Follows the engine's figures. A call that breaks off is made anew, on a new connection if need be: the worker
    /// is given up when it ends the stream itself, when nobody listens on its socket any more, or when nothing was
    /// heard of it for as long as it may hang.
    pub(super) async fn follow_stats(&self, mut client: WorkerClient) -> Result<(), Disconnected> {
        let limit = self.context.limits.hang_timeout;
        let interval = (limit / 8).clamp(Duration::from_millis(50), Duration::from_secs(1));
        let mut received = Instant::now();
        loop {
            match self.read_stats(&mut client, interval, &mut received).await {
                Err(error) if received.elapsed() < limit && !error.is_unreachable() => {
                    tracing::warn!(
                        model = %self.config.model,
                        error = &error as &dyn Error,
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
        client: &mut WorkerClient,
        interval: Duration,
        received: &mut Instant,
    ) -> Result<(), CallError> {
        let mut stats = client.watch_stats(interval).await?;
        while let Some(reported) = stats.next().await? {
            self.heartbeat.record(&reported);
            *received = Instant::now();
        }
        Ok(())
    }
}
