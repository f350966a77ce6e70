//! A model's worker, with all that it has: one value, dropped as one.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::placement::{OnGpu, Placement};
use crate::{
    catalog::LoadAttempt,
    lifecycle::{
        admission::{AdmissionQueue, Occupancy},
        command::{UnloadReport, Verification},
        devices::PendingPlacement,
        file_watch::{FileWatch, FilesChange},
        load_slots::LoadSlot,
        memory::Reservation,
        worker_monitor::WorkerMonitor,
        worker_task::{WorkerReport, WorkerTask},
    },
    model::{Failure, ModelMemory},
    worker::{Inspection, WorkerClient},
};

/// A worker from its start to the end of its unload.
pub(in crate::lifecycle::driver) struct HostedWorker {
    /// The exchange with it, until it is reaped.
    pub(in crate::lifecycle::driver) task: Option<WorkerTask>,
    /// Once it has a process.
    pub(in crate::lifecycle::driver) monitor: Option<WorkerMonitor>,
    /// Once it is connected.
    pub(in crate::lifecycle::driver) client: Option<WorkerClient>,
    /// `None`: it is on the CPU.
    pub(in crate::lifecycle::driver) gpu: Option<OnGpu>,
    pub(in crate::lifecycle::driver) memory: WorkerMemory,
    /// Requests that the engine can run at the same time.
    pub(in crate::lifecycle::driver) engine_concurrency: u32,
    /// The way in, once it serves.
    pub(in crate::lifecycle::driver) queue: Option<Arc<AdmissionQueue>>,
    /// The attempt that is on disk.
    pub(in crate::lifecycle::driver) attempt: Option<LoadAttempt>,
    /// On the model's files, while it serves.
    pub(in crate::lifecycle::driver) files: FileWatch,
    /// The most that it was seen to hold.
    pub(in crate::lifecycle::driver) peak: ModelMemory,
    /// Whether a pace was seen that is not on disk.
    pub(in crate::lifecycle::driver) pace_is_new: bool,
    pub(in crate::lifecycle::driver) stopping: Stopping,
    /// What its unload left behind.
    pub(in crate::lifecycle::driver) unload_failure: Option<Failure>,
    /// Until the model is READY.
    slot: Option<LoadSlot>,
    /// Until it has a reservation.
    pending: Option<PendingPlacement>,
}

/// What comes of a worker.
pub(in crate::lifecycle::driver) enum WorkerEvent {
    /// Its task has something to report.
    Report(WorkerReport),
    /// The memory was given, or not.
    Memory(Result<Reservation, Failure>),
    /// What has become of the model's files, if that is known.
    Files(Option<FilesChange>),
    /// No request runs or waits any more.
    Drained,
}

/// The memory of a worker.
pub(in crate::lifecycle::driver) enum WorkerMemory {
    /// Nobody knows what it needs.
    Unknown,
    /// What its inspection found was asked for.
    Requested {
        inspection: Box<Inspection>,
        decision: BoxFuture<'static, Result<Reservation, Failure>>,
    },
    /// It was let in.
    Reserved(Reservation),
}

/// What is known of the stop that is under way.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::lifecycle::driver) struct Stopping {
    pub(in crate::lifecycle::driver) began: Option<Instant>,
    pub(in crate::lifecycle::driver) held: ModelMemory,
    pub(in crate::lifecycle::driver) killed: bool,
}

impl HostedWorker {
    /// The worker of `task`, which was just started at `placement`.
    pub(in crate::lifecycle::driver) fn new(
        task: WorkerTask,
        placement: Placement,
        attempt: Option<LoadAttempt>,
    ) -> Self {
        Self {
            task: Some(task),
            monitor: None,
            client: None,
            gpu: placement.gpu,
            memory: WorkerMemory::Unknown,
            engine_concurrency: 1,
            queue: None,
            attempt,
            files: FileWatch::default(),
            peak: ModelMemory::default(),
            pace_is_new: false,
            stopping: Stopping::default(),
            unload_failure: None,
            slot: Some(placement.slot),
            pending: placement.pending,
        }
    }

    /// Waits for what comes next. Safe to cancel.
    pub(in crate::lifecycle::driver) async fn next(&mut self, draining: bool) -> WorkerEvent {
        tokio::select! {
            report = next_report(&mut self.task) => WorkerEvent::Report(report),
            decision = self.memory.decided() => WorkerEvent::Memory(decision),
            seen = self.files.seen() => WorkerEvent::Files(seen),
            () = emptied(self.queue.as_deref()), if draining => WorkerEvent::Drained,
        }
    }

    /// Other loads may go on.
    pub(in crate::lifecycle::driver) fn release_slot(&mut self) {
        self.slot = None;
        self.pending = None;
    }

    /// It was let in with `reservation`.
    pub(in crate::lifecycle::driver) fn reserve(&mut self, reservation: Reservation) {
        self.memory = WorkerMemory::Reserved(reservation);
        self.pending = None;
    }

    /// What it holds is on its way back.
    pub(in crate::lifecycle::driver) fn mark_leaving(&self) {
        if let Some(reservation) = self.memory.reservation() {
            reservation.mark_leaving();
        }
    }

    /// Who is inside.
    pub(in crate::lifecycle::driver) fn occupancy(&self) -> Occupancy {
        let queue = self.queue.as_ref();
        queue.map(|queue| queue.occupancy()).unwrap_or_default()
    }

    /// Kills it, if it lives.
    pub(in crate::lifecycle::driver) fn kill(&mut self) {
        self.stopping.killed = true;
        if let Some(task) = &self.task {
            task.kill();
        }
    }

    /// What the unload that ends now did; `device_bytes` were seen to come back.
    pub(in crate::lifecycle::driver) fn unload_report(
        &self,
        verification: Verification,
        device_bytes: u64,
    ) -> UnloadReport {
        let held = match (self.stopping.began, &self.monitor) {
            (Some(_), _) => self.stopping.held,
            (None, Some(monitor)) => monitor.memory(),
            (None, None) => ModelMemory::default(),
        };
        UnloadReport {
            was_loaded: true,
            host_bytes: held.host_bytes,
            device_bytes,
            verification,
            killed: self.stopping.killed,
        }
    }
}

impl WorkerMemory {
    /// What it was let in with.
    pub(in crate::lifecycle::driver) fn reservation(&self) -> Option<&Reservation> {
        match self {
            Self::Reserved(reservation) => Some(reservation),
            Self::Unknown | Self::Requested { .. } => None,
        }
    }

    /// Gives up what it was let in with, to the caller.
    pub(in crate::lifecycle::driver) fn take_reservation(&mut self) -> Option<Reservation> {
        match std::mem::replace(self, Self::Unknown) {
            Self::Reserved(reservation) => Some(reservation),
            Self::Unknown | Self::Requested { .. } => None,
        }
    }

    /// Whether the answer is waited for.
    pub(in crate::lifecycle::driver) fn is_requested(&self) -> bool {
        matches!(self, Self::Requested { .. })
    }

    /// The answer is not waited for any more. Gives what the inspection found.
    pub(in crate::lifecycle::driver) fn cancel_request(&mut self) -> Option<Box<Inspection>> {
        match std::mem::replace(self, Self::Unknown) {
            Self::Requested { inspection, .. } => Some(inspection),
            other => {
                *self = other;
                None
            }
        }
    }

    /// The answer. Safe to cancel; waits for ever when nothing was asked.
    async fn decided(&mut self) -> Result<Reservation, Failure> {
        match self {
            Self::Requested { decision, .. } => decision.await,
            Self::Unknown | Self::Reserved(_) => std::future::pending().await,
        }
    }
}

async fn next_report(task: &mut Option<WorkerTask>) -> WorkerReport {
    let report = match task {
        Some(task) => task.next().await,
        None => None,
    };
    match report {
        Some(report) => report,
        None => std::future::pending().await,
    }
}

async fn emptied(queue: Option<&AdmissionQueue>) {
    if let Some(queue) = queue {
        queue.empty().await;
    }
}
