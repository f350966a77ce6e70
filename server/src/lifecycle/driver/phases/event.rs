//! What comes of what a phase waits for.

use super::{download::DownloadEvent, placement::Placement};
use crate::{
    lifecycle::{
        device_release::ReleaseOutcome, file_watch::FilesChange, memory::Reservation,
        worker_task::WorkerReport,
    },
    model::Failure,
};

/// What comes of what a phase waits for.
pub(in crate::lifecycle::driver) enum PhaseEvent {
    /// The placement, or that there is none.
    Placed(Result<Placement, Failure>),
    /// Of the download; `None`: its task is lost.
    Download(Option<DownloadEvent>),
    /// The worker's.
    Report(WorkerReport),
    /// The memory was given, or not.
    Memory(Result<Reservation, Failure>),
    /// What has become of the model's files, if that can be told.
    Files(Option<FilesChange>),
    /// No request runs or waits any more.
    Drained,
    /// The device was looked at.
    Released(ReleaseOutcome),
}
