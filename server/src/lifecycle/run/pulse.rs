//! What a worker says of its engine while it serves.

use std::time::Duration;

use hangar_client::worker::v1::WatchStatsRequest;
use tokio::time::timeout;

use super::{Lost, Talk};
use crate::worker::Client;

/// Time that a worker which is ready has to tell what it has of its device.
const FIRST_BEAT: Duration = Duration::from_secs(2);

impl Talk<'_> {
    /// Hears what the model, which has just been loaded, has of its device, if it is on one: that is what it
    /// claims from READY on.
    pub(super) async fn take_stock(&self, client: Client) {
        if self.on_device {
            let _ = timeout(FIRST_BEAT, self.hear_once(client)).await;
            let devices = self.context.devices.system();
            let _ = devices.fresh_devices(FIRST_BEAT).await;
        }
    }

    /// Hears the engine's pulse once.
    async fn hear_once(&self, mut client: Client) -> Result<(), tonic::Status> {
        let stats = client.watch_stats(WatchStatsRequest::default()).await?;
        if let Some(beat) = stats.into_inner().message().await? {
            self.pulse.beats(&beat);
        }
        Ok(())
    }

    /// Follows the engine's pulse. A pulse that ends is noticed by the time that it stands still.
    pub(super) async fn listen(&self, mut client: Client) -> Result<(), Lost> {
        let interval = (self.context.limits.hang_timeout / 8)
            .clamp(Duration::from_millis(50), Duration::from_secs(1));
        let interval = prost_types::Duration::try_from(interval).ok();
        let stats = client.watch_stats(WatchStatsRequest { interval }).await;
        let mut stats = stats.map_err(|_| Lost::Connection)?.into_inner();
        while let Ok(Some(beat)) = stats.message().await {
            self.pulse.beats(&beat);
        }
        Err(Lost::Connection)
    }
}
