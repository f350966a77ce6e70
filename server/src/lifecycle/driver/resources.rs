//! What a driver holds, by where its model stands: what is of use in one state only exists only there.

mod download;
mod hosted_worker;
mod placement;

pub(super) use download::{Download, DownloadEvent};
use futures::future::BoxFuture;
pub(super) use hosted_worker::{HostedWorker, WorkerEvent, WorkerMemory};
pub(super) use placement::{OnGpu, Placement, PlacementRequest, find_placement};

use crate::{
    lifecycle::{device_release::ReleaseOutcome, worker_monitor::WorkerMonitor},
    model::Failure,
};

/// The resources of a model. What is dropped with a variant is given back.
pub(super) enum DriverResources {
    /// UNLOADED, BACKOFF and FAILED.
    Idle {
        /// What the last unload left behind.
        unload_failure: Option<Failure>,
    },
    /// PENDING: a placement is waited for.
    Queued(PlacementRequest),
    /// There is a placement, and the download or the worker is about to be started.
    Placed(Placement),
    /// DOWNLOADING.
    Downloading {
        download: Download,
        placement: Placement,
    },
    /// STARTING to UNLOADING.
    Hosted(Box<HostedWorker>),
    /// UNLOADING: the worker was reaped, and its device is looked at.
    Releasing {
        worker: Box<HostedWorker>,
        released: BoxFuture<'static, ReleaseOutcome>,
    },
    /// The model is being deleted: the driver ends.
    Ended,
}

/// What comes of what is waited for.
pub(super) enum ResourceEvent {
    /// The placement, or that there is none.
    Placed(Result<Placement, Failure>),
    /// Of the download; `None`: its task is lost.
    Download(Option<DownloadEvent>),
    /// Of the worker.
    Worker(WorkerEvent),
    /// The device was looked at.
    Released(ReleaseOutcome),
}

impl DriverResources {
    /// Holds nothing.
    pub(super) fn idle() -> Self {
        Self::Idle {
            unload_failure: None,
        }
    }

    /// Waits for what comes next; for ever where nothing does. Safe to cancel.
    pub(super) async fn next(&mut self, draining: bool) -> ResourceEvent {
        match self {
            Self::Idle { .. } | Self::Placed(_) | Self::Ended => std::future::pending().await,
            Self::Queued(request) => ResourceEvent::Placed(request.granted().await),
            Self::Downloading { download, .. } => ResourceEvent::Download(download.next().await),
            Self::Hosted(worker) => ResourceEvent::Worker(worker.next(draining).await),
            Self::Releasing { released, .. } => ResourceEvent::Released(released.await),
        }
    }

    /// The worker, until its memory is accounted for.
    pub(super) fn worker(&self) -> Option<&HostedWorker> {
        match self {
            Self::Hosted(worker) | Self::Releasing { worker, .. } => Some(worker),
            Self::Idle { .. } | Self::Queued(_) | Self::Placed(_) => None,
            Self::Downloading { .. } | Self::Ended => None,
        }
    }

    /// As [`Self::worker`].
    pub(super) fn worker_mut(&mut self) -> Option<&mut HostedWorker> {
        match self {
            Self::Hosted(worker) | Self::Releasing { worker, .. } => Some(worker),
            Self::Idle { .. } | Self::Queued(_) | Self::Placed(_) => None,
            Self::Downloading { .. } | Self::Ended => None,
        }
    }

    /// The GPU of the worker, if it is on one.
    pub(super) fn worker_gpu_mut(&mut self) -> Option<&mut OnGpu> {
        self.worker_mut()?.gpu.as_mut()
    }

    /// What watches the worker, while it has a process.
    pub(super) fn monitor(&self) -> Option<&WorkerMonitor> {
        match self {
            Self::Hosted(worker) => worker.monitor.as_ref(),
            Self::Idle { .. } | Self::Queued(_) | Self::Placed(_) => None,
            Self::Downloading { .. } | Self::Releasing { .. } | Self::Ended => None,
        }
    }

    /// The GPU that the model is on, or will be; `None`: the CPU, or nothing yet.
    pub(super) fn gpu(&self) -> Option<&OnGpu> {
        match self {
            Self::Placed(placement) | Self::Downloading { placement, .. } => placement.gpu.as_ref(),
            Self::Hosted(worker) | Self::Releasing { worker, .. } => worker.gpu.as_ref(),
            Self::Idle { .. } | Self::Queued(_) | Self::Ended => None,
        }
    }

    /// What the last unload left behind, where nothing has begun since.
    pub(super) fn unload_failure(&self) -> Option<&Failure> {
        match self {
            Self::Idle { unload_failure } => unload_failure.as_ref(),
            Self::Queued(_) | Self::Placed(_) | Self::Downloading { .. } => None,
            Self::Hosted(_) | Self::Releasing { .. } | Self::Ended => None,
        }
    }

    /// `download` brings the files for the placement.
    pub(super) fn begin_download(&mut self, download: Download) {
        self.replace(|held| match held {
            Self::Placed(placement) => Self::Downloading {
                download,
                placement,
            },
            other => other,
        });
    }

    /// The download has ended, or is to end.
    pub(super) fn end_download(&mut self) {
        self.replace(|held| match held {
            Self::Downloading { placement, .. } => Self::Placed(placement),
            other => other,
        });
    }

    /// Gives the load slot back, or leaves its queue.
    pub(super) fn release_slot(&mut self) {
        match self {
            Self::Queued(_) | Self::Placed(_) | Self::Downloading { .. } => *self = Self::idle(),
            Self::Hosted(worker) | Self::Releasing { worker, .. } => worker.release_slot(),
            Self::Idle { .. } | Self::Ended => {}
        }
    }

    /// The placement, for the worker or the download that is started on it.
    pub(super) fn take_placement(&mut self) -> Option<Placement> {
        match std::mem::replace(self, Self::idle()) {
            Self::Placed(placement) => Some(placement),
            other => {
                *self = other;
                None
            }
        }
    }

    /// `worker` was started.
    pub(super) fn host(&mut self, worker: HostedWorker) {
        *self = Self::Hosted(Box::new(worker));
    }

    /// The worker, which has ended for good.
    pub(super) fn take_worker(&mut self) -> Option<Box<HostedWorker>> {
        match std::mem::replace(self, Self::idle()) {
            Self::Hosted(mut worker) | Self::Releasing { mut worker, .. } => {
                let unload_failure = worker.unload_failure.take();
                *self = Self::Idle { unload_failure };
                Some(worker)
            }
            other => {
                *self = other;
                None
            }
        }
    }

    /// The worker was reaped: `released` looks at its device.
    pub(super) fn begin_release(&mut self, released: BoxFuture<'static, ReleaseOutcome>) {
        self.replace(|held| match held {
            Self::Hosted(worker) => Self::Releasing { worker, released },
            other => other,
        });
    }

    /// The device is not looked at any more. `failure` is why it does not have its memory back.
    pub(super) fn device_released(&mut self, failure: Option<Failure>) {
        self.end_release();
        if let Self::Hosted(worker) = self {
            // What did not come back shows in what the device has free.
            worker.memory = WorkerMemory::Unknown;
            worker.unload_failure = failure;
        }
    }

    fn end_release(&mut self) {
        self.replace(|held| match held {
            Self::Releasing { worker, .. } => Self::Hosted(worker),
            other => other,
        });
    }

    /// Waits for nothing more than the end of the worker, if there is one.
    pub(super) fn interrupt(&mut self) {
        self.end_release();
        self.release_slot();
        if let Self::Hosted(worker) = self {
            worker.memory.cancel_request();
        }
    }

    fn replace(&mut self, change: impl FnOnce(Self) -> Self) {
        *self = change(std::mem::replace(self, Self::idle()));
    }
}
