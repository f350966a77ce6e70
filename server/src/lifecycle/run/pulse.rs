//! What a worker says of its engine while it serves.

use std::{error::Error, io, time::Duration};

use hangar_client::worker::v1::WatchStatsRequest;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use super::{Lost, Talk};
use crate::worker::Client;

/// Time that a worker which is ready has to tell what it has of its device.
const FIRST_BEAT: Duration = Duration::from_secs(2);

/// Pause before a call that broke off is made anew.
const PAUSE: Duration = Duration::from_millis(50);

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
    async fn hear_once(&self, mut client: Client) -> Result<(), Status> {
        let stats = client.watch_stats(WatchStatsRequest::default()).await?;
        if let Some(beat) = stats.into_inner().message().await? {
            self.pulse.beats(&beat);
        }
        Ok(())
    }

    /// Follows the engine's pulse. A call that breaks off is made anew, on a new connection if need be: the worker
    /// is given up when it ends the stream itself, when nobody listens on its socket any more, or when nothing was
    /// heard of it for as long as it may hang.
    pub(super) async fn listen(&self, mut client: Client) -> Result<(), Lost> {
        let limit = self.context.limits.hang_timeout;
        let interval = (limit / 8).clamp(Duration::from_millis(50), Duration::from_secs(1));
        let mut heard = Instant::now();
        loop {
            match self.follow(&mut client, interval, &mut heard).await {
                Err(status) if heard.elapsed() < limit && !nobody_listens(&status) => {
                    tracing::warn!(
                        model = %self.model,
                        error = &status as &dyn Error,
                        "a call to the worker broke off"
                    );
                    sleep(PAUSE).await;
                }
                Ok(()) | Err(_) => return Err(Lost::Connection),
            }
        }
    }

    /// Follows the engine's pulse until the worker ends the stream.
    async fn follow(
        &self,
        client: &mut Client,
        interval: Duration,
        heard: &mut Instant,
    ) -> Result<(), Status> {
        let interval = prost_types::Duration::try_from(interval).ok();
        let stats = client.watch_stats(WatchStatsRequest { interval }).await?;
        let mut stats = stats.into_inner();
        while let Some(beat) = stats.message().await? {
            self.pulse.beats(&beat);
            *heard = Instant::now();
        }
        Ok(())
    }
}

/// Whether a call failed because there is no listener on the worker's socket.
fn nobody_listens(status: &Status) -> bool {
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
