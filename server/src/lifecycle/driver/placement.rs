//! The device that a model is on: how it gets there, and that the device has its memory back afterwards.

use std::time::Duration;

use super::{
    ModelDriver,
    resources::{DriverResources, HostedWorker, Placement, PlacementRequest, find_placement},
    timers::Timer,
};
use crate::{
    lifecycle::{
        command::Verification,
        device_release::{DeviceRelease, DeviceSnapshot, ReleaseOutcome},
        load_slots::Rank,
        memory::Reservation,
    },
    model::{DeviceName, Failure, LoadId, state::Event},
};

/// What a model has of its device, in bytes, beyond what its worker reports: at most this much is believed. It is
/// what the engine's kernels, workspaces and CUDA itself take.
const MAX_UNREPORTED_DEVICE_BYTES: u64 = 4 << 30;

/// How long a device is waited for when the server shuts down.
const SHUTDOWN_RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

impl ModelDriver {
    /// Queues for a slot on the device that the spec of the attempt wants.
    pub(super) fn request_placement(&mut self) {
        let spec = self.next_spec();
        let rank = Rank {
            required: spec.required,
            priority: spec.priority,
        };
        let requested = spec.requested_device();
        let request = if self.context.devices.is_for_cpu(&requested) {
            PlacementRequest::Cpu {
                slot: Box::pin(self.context.slots.take(&DeviceName::Cpu, rank)),
                requested: spec.device.clone(),
            }
        } else {
            let model = self.model.id().clone();
            let placement = find_placement(self.context.clone(), model, spec, requested, rank);
            PlacementRequest::Device(Box::pin(placement))
        };
        self.resources = DriverResources::Queued(request);
    }

    /// A slot on a device came free, or there is no such device.
    pub(super) fn placement_granted(&mut self, placement: Result<Placement, Failure>) {
        self.resources = DriverResources::idle();
        let placement = match placement {
            Ok(placement) => placement,
            Err(failure) => return self.apply(Event::Fault(failure)),
        };
        if self.next_spec().device != placement.requested {
            // It was changed meanwhile.
            return self.request_placement();
        }
        self.resources = DriverResources::Placed(placement);
        self.adopt_spec();
        self.apply(Event::SlotGranted);
    }

    /// The model's device.
    pub(super) fn device_name(&self) -> DeviceName {
        match self.resources.gpu() {
            Some(on) => on.gpu.device_name(),
            None => DeviceName::Cpu,
        }
    }

    /// Takes note of how the worker's device looks while the worker is there.
    pub(super) fn observe_device(&mut self) {
        let pid = self.published.upcoming().worker_pid;
        let Some(on) = self.resources.worker_gpu_mut() else {
            return;
        };
        let reading = self.context.devices.system().devices();
        let snapshot = DeviceSnapshot::of(&reading, &on.gpu, self.model.id(), pid, &self.context);
        on.last = snapshot.unwrap_or_else(|| on.last.clone());
    }

    /// The model is loaded: takes note of what its device lost by that.
    pub(super) fn record_device_use(&mut self) {
        self.observe_device();
        let memory = self.published.upcoming().memory;
        let reported = memory.unwrap_or_default().device_bytes;
        let Some(on) = self.resources.worker_gpu_mut() else {
            return;
        };
        // Loads that run at the same time on a device hide what each of them takes.
        let likely = reported..=reported.saturating_add(MAX_UNREPORTED_DEVICE_BYTES);
        let allocated = on.before.allocated(&on.last);
        on.allocated = allocated.filter(|allocated| reported == 0 || likely.contains(allocated));
    }

    /// What the model has of its device when everything counts, in bytes, of which its worker reports `reported`:
    /// what the GPU driver says, else what the device lost by the load. Zero when nobody says.
    pub(super) fn device_footprint(&self, reported: u64) -> u64 {
        let seen = self
            .resources
            .gpu()
            .and_then(|on| on.last.own().or(on.allocated));
        seen.unwrap_or_default().max(reported)
    }

    /// The worker was reaped: what it had of the host is back, and the device is looked at. Says whether
    /// there is one to be looked at.
    pub(super) fn begin_release(&mut self) -> bool {
        let pid = self.published.upcoming().worker_pid;
        let Some(worker) = self.resources.worker() else {
            return false;
        };
        let (Some(reservation), Some(release)) =
            (worker.memory.reservation(), self.release(worker, pid))
        else {
            return false;
        };
        reservation.release_host();
        self.timers.clear(Timer::Stop);
        self.timers.clear(Timer::Kill);
        let released = Box::pin(release.observe(self.release_timeout()));
        self.resources.begin_release(released);
        true
    }

    /// The device was looked at.
    pub(super) fn device_released(&mut self, released: ReleaseOutcome) {
        self.resources.device_released(released.failure);
        self.end_unload(released.verification, released.bytes);
    }

    /// Gives up the memory of a `worker` that has gone without an unload: what it had of a device is waited
    /// for by those who want in, not by the model.
    pub(super) fn release_memory(&self, mut worker: HostedWorker, pid: Option<u32>) {
        let release = self.release(&worker, pid);
        let unreclaimed = worker.memory.take_reservation();
        let unreclaimed = unreclaimed.and_then(Reservation::begin_reclaim);
        let (Some(release), Some(unreclaimed)) = (release, unreclaimed) else {
            return;
        };
        let timeout = self.release_timeout();
        let closing = self.context.closing.clone();
        let observe = async move {
            tokio::select! {
                _ = release.observe(timeout) => {}
                () = closing.cancelled() => {}
            }
            drop(unreclaimed);
        };
        let id = self.model.id().clone();
        // Its panic ends the wait, and with it what is kept from others: who comes next reads what the device has free.
        let panicked = move || {
            tracing::error!(model = %id, "nobody looks any more whether the device has the model's memory back");
        };
        self.context
            .tasks
            .owned("device-release", observe, panicked);
    }

    fn release(&self, worker: &HostedWorker, pid: Option<u32>) -> Option<DeviceRelease> {
        let on = worker.gpu.clone()?;
        Some(DeviceRelease {
            context: self.context.clone(),
            model: self.model.id().clone(),
            pid,
            gpu: on.gpu,
            before: on.before,
            last: on.last,
            allocated: on.allocated,
        })
    }

    fn release_timeout(&self) -> Duration {
        let timeout = self.context.limits.device_release_timeout;
        if self.context.closing.is_cancelled() {
            timeout.min(SHUTDOWN_RELEASE_TIMEOUT)
        } else {
            timeout
        }
    }

    /// The unload has come to its end.
    pub(super) fn end_unload(&mut self, verification: Verification, device_bytes: u64) {
        let report = self.unload_report(verification, device_bytes);
        let worker = self.resources.worker();
        let began = worker.and_then(|worker| worker.stopping.began);
        let took = began.map(|began| began.elapsed()).unwrap_or_default();
        let id = self.model.id().as_str();
        self.context.metrics.unloaded(id, took);
        self.apply(Event::Verified {
            restart: LoadId::random(),
        });
        self.answer_unloads(&report);
    }
}
