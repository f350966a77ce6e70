//! A download of a load's files.
//!
//! A task of its own brings them. It reports how far it is to the driver, and ends when the driver drops the download.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{Instrument, Span};

use crate::{
    download::{DownloadProgress, RepositorySnapshot},
    failpoint,
    lifecycle::context::Context,
    model::{Failure, HubSource, ModelId},
};

/// A download that is under way. Dropping it ends the download; what has come stays.
pub(in crate::lifecycle::driver) struct Download {
    events: mpsc::Receiver<DownloadEvent>,
    /// When its size was known.
    pub(in crate::lifecycle::driver) began: Option<Instant>,
    _stop: DropGuard,
}

/// What a download reports.
#[derive(Debug)]
pub(in crate::lifecycle::driver) enum DownloadEvent {
    /// Bytes that are there, and bytes of all files.
    Bytes { done: u64, total: u64 },
    /// All is there.
    Done(RepositorySnapshot),
    /// It cannot go on.
    Failed(Failure),
}

/// Between two reports of how far a download is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

impl Download {
    /// Begins to bring the files of `source` for the model `id`.
    pub(in crate::lifecycle::driver) fn begin(
        context: &Arc<Context>,
        id: &ModelId,
        source: HubSource,
        span: Span,
    ) -> Self {
        let (sender, events) = mpsc::channel(4);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let work = fetch_files(context.clone(), source, sender).instrument(span);
        let id = id.to_string();
        let work = async move {
            tokio::select! {
                biased;
                () = stopped.cancelled() => {}
                () = work => {}
                never = failpoint::meets("download", Some(&id)) => match never {},
            }
        };
        // A panic leaves the driver without the last news, and that is an event to it.
        context.tasks.owned("download", work, || {});
        Self {
            events,
            began: None,
            _stop: stop.drop_guard(),
        }
    }

    /// What comes next; `None`: its task is lost. Safe to cancel.
    pub(in crate::lifecycle::driver) async fn next(&mut self) -> Option<DownloadEvent> {
        self.events.recv().await
    }
}

async fn fetch_files(
    context: Arc<Context>,
    source: HubSource,
    events: mpsc::Sender<DownloadEvent>,
) {
    // Asked anew for each download: the server may have been started with another list since the model was
    // registered.
    if let Err(error) = context.roots.check_hub(&source) {
        return send_event(&events, DownloadEvent::Failed(error.into())).await;
    }
    let progress = DownloadProgress::default();
    let mut fetch = std::pin::pin!(context.downloads.fetch(&source, &progress));
    let mut ticks = interval(PROGRESS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reported = None;
    loop {
        tokio::select! {
            end = &mut fetch => {
                let end = end.map_or_else(|error| DownloadEvent::Failed(error.into()), DownloadEvent::Done);
                return send_event(&events, end).await;
            }
            _ = ticks.tick() => {
                let bytes = progress.bytes();
                if let Some((done, total)) = bytes && bytes != reported {
                    reported = bytes;
                    send_event(&events, DownloadEvent::Bytes { done, total }).await;
                }
            }
        }
    }
}

/// Reports to a driver, which drops the download when it does not want it any more.
async fn send_event(sender: &mpsc::Sender<DownloadEvent>, event: DownloadEvent) {
    let _ = sender.send(event).await;
}
