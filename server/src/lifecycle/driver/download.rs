//! The files of a load that come from the hub.

use tokio::time::Instant;

use super::{
    ModelDriver,
    resources::{Download, DownloadEvent, DriverResources},
};
use crate::{
    download::RepositorySnapshot,
    model::{self, Failure, HubSource, ModelMetadata, Source, state::Event},
    worker::ModelFiles,
};

impl ModelDriver {
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
        let span = self.load.span.clone();
        let download = Download::begin(&self.context, self.model.id(), source, span);
        self.resources.begin_download(download);
    }

    pub(super) fn handle_download_event(&mut self, event: Option<DownloadEvent>) {
        match event.unwrap_or_else(|| DownloadEvent::Failed(Failure::of_panicked_task())) {
            DownloadEvent::Bytes { done, total } => {
                let DriverResources::Downloading { download, .. } = &mut self.resources else {
                    return;
                };
                let meter = &mut self.published.meter;
                let began = *download.began.get_or_insert_with(|| {
                    meter.enter(model::LoadPhase::Downloading, total);
                    Instant::now()
                });
                if meter.observe(done, began.elapsed()).is_some() {
                    self.publish_progress();
                }
            }
            DownloadEvent::Done(snapshot) => {
                self.resources.end_download();
                self.load.snapshot = Some(snapshot);
                self.apply(Event::Downloaded);
            }
            DownloadEvent::Failed(failure) => {
                self.resources.end_download();
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
    pub(super) fn with_revision(&self, metadata: ModelMetadata) -> ModelMetadata {
        let Some((source, snapshot)) = self.downloaded() else {
            return metadata;
        };
        // The worker knows the files only, and names a model that has no name after its directory.
        let named = metadata.model_name != snapshot.commit;
        ModelMetadata {
            resolved_revision: snapshot.commit.clone(),
            model_name: if named {
                metadata.model_name
            } else {
                source.repository.to_string()
            },
            ..metadata
        }
    }

    fn downloaded(&self) -> Option<(&HubSource, &RepositorySnapshot)> {
        match &self.load.spec.source {
            Source::HuggingFace(source) => Some((source, self.load.snapshot.as_ref()?)),
            Source::Path(_) | Source::Demo => None,
        }
    }
}
