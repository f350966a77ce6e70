//! The files of a load that come from the hub.
//!
//! A task of its own brings them. It reports how far it is to the driver, and ends when the driver drops the download.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument;

use super::{Driver, phases::Phase};
use crate::{
    download::{Progress, Snapshot},
    failpoint,
    lifecycle::context::Context,
    model::{self, Failure, HubSource, Metadata, Source, state::Event},
    worker::ModelFiles,
};

/// A download that is under way. Dropping it ends the download; what has come stays.
pub(super) struct Download {
    events: mpsc::Receiver<DownloadEvent>,
    /// When its size was known.
    began: Option<Instant>,
    _stop: DropGuard,
}

/// What a download reports.
#[derive(Debug)]
pub(super) enum DownloadEvent {
    /// Bytes that are there, and bytes of all files.
    Bytes { done: u64, total: u64 },
    /// All is there.
    Done(Snapshot),
    /// It cannot go on.
    Failed(Failure),
}

/// Between two reports of how far a download is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

impl Driver {
    /// Begins to download what the spec names. A restart takes the commit that was loaded before.
    pub(super) fn download(&mut self) {
        let Source::HuggingFace(source) = &self.load.spec.source else {
            return;
        };
        let mut source = source.clone();
        if let Some(snapshot) = self.load.snapshot.take()
            && self.load.restart
        {
            source.revision = snapshot.commit;
        }
        let (sender, events) = mpsc::channel(4);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let work =
            fetch_files(self.context.clone(), source, sender).instrument(self.load.span.clone());
        let id = self.model.id().to_string();
        let work = async move {
            tokio::select! {
                biased;
                () = stopped.cancelled() => {}
                () = work => {}
                never = failpoint::meets("download", Some(&id)) => match never {},
            }
        };
        // A panic leaves the driver without the last news, and that is an event to it.
        self.context.tasks.owned("download", work, || {});
        let download = Download {
            events,
            began: None,
            _stop: stop.drop_guard(),
        };
        self.phase.begin_download(download);
    }

    pub(super) fn handle_download_event(&mut self, event: Option<DownloadEvent>) {
        match event.unwrap_or_else(|| DownloadEvent::Failed(Failure::of_a_lost_task())) {
            DownloadEvent::Bytes { done, total } => {
                let Phase::Downloading { download, .. } = &mut self.phase else {
                    return;
                };
                let meter = &mut self.publication.meter;
                let began = *download.began.get_or_insert_with(|| {
                    meter.enter(model::Phase::Downloading, total);
                    Instant::now()
                });
                if meter.observe(done, began.elapsed()).is_some() {
                    self.publish_progress();
                }
            }
            DownloadEvent::Done(snapshot) => {
                self.phase.end_download();
                self.load.snapshot = Some(snapshot);
                self.apply(Event::Downloaded);
            }
            DownloadEvent::Failed(failure) => {
                self.phase.end_download();
                self.apply(Event::Fault(failure));
            }
        }
    }

    /// Where the files are that were downloaded for this load.
    pub(super) fn downloaded_files(&self) -> Option<ModelFiles> {
        let (_, snapshot) = self.downloaded()?;
        Some(ModelFiles::Path(snapshot.path.clone()))
    }

    /// `metadata` with what is known of the repository.
    pub(super) fn with_revision(&self, metadata: Metadata) -> Metadata {
        let Some((source, snapshot)) = self.downloaded() else {
            return metadata;
        };
        // The worker knows the files only, and names a model that has no name after its directory.
        let named = metadata.model_name != snapshot.commit;
        Metadata {
            resolved_revision: snapshot.commit.clone(),
            model_name: if named {
                metadata.model_name
            } else {
                source.repository.clone()
            },
            ..metadata
        }
    }

    fn downloaded(&self) -> Option<(&HubSource, &Snapshot)> {
        match &self.load.spec.source {
            Source::HuggingFace(source) => Some((source, self.load.snapshot.as_ref()?)),
            Source::Path(_) | Source::Demo => None,
        }
    }
}

impl Download {
    /// What comes next; `None`: its task is lost. Safe to cancel.
    pub(super) async fn next(&mut self) -> Option<DownloadEvent> {
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
    let source = Source::HuggingFace(source);
    let located = context.roots.locate(&source).await;
    let Source::HuggingFace(source) = &source else {
        return;
    };
    if let Err(error) = located {
        return send_event(&events, DownloadEvent::Failed(error.into())).await;
    }
    let progress = Progress::default();
    let mut fetch = std::pin::pin!(context.downloads.fetch(source, &progress));
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
