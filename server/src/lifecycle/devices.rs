//! The GPUs that models may be on, and which of them a model gets.
//!
//! Invariant: a model gets the device that its spec names or none; where the spec leaves the choice, two
//! loads that choose at the same time do not both count on the same free memory.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{gpu::Gpu, memory::MemoryAdmission};
use crate::{
    model::{Failure, ModelId, Reason, RequestedDevice},
    system::{Device, DeviceReading, GpuDriver, SystemMonitor},
};

/// Chooses devices.
#[derive(Debug)]
pub struct Devices {
    system: Arc<SystemMonitor>,
    worker: CudaWorker,
    /// How long the GPU driver is waited for where it was not heard of yet, or does not answer.
    gpu_driver_timeout: Duration,
    /// Models that are on their way to a device and have no reservation there yet.
    pending: Mutex<PendingPlacements>,
}

/// The UUID of the device that a model is on its way to, and what it needs there if that is known.
type PendingPlacements = BTreeMap<ModelId, (Arc<str>, Option<u64>)>;

/// The worker for GPUs.
#[derive(Clone, Debug)]
pub struct CudaWorker {
    /// Where it is, or should be.
    pub path: PathBuf,
    /// Whether it is there.
    pub installed: bool,
}

/// Counts a model among those that are on their way to a device, until it is dropped.
#[derive(Debug)]
pub(super) struct PendingPlacement {
    devices: Arc<Devices>,
    id: ModelId,
}

/// A model on its way to a device counts for the device's memory divided by this where its need is not known.
const UNKNOWN_NEED: u64 = 16;

impl Devices {
    /// The devices that `system` reads, for models that `worker` hosts. A GPU driver that does not answer is waited for up to
    /// `gpu_driver_timeout`.
    pub fn new(
        system: Arc<SystemMonitor>,
        worker: CudaWorker,
        gpu_driver_timeout: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            system,
            worker,
            gpu_driver_timeout,
            pending: Mutex::default(),
        })
    }

    /// The program that hosts models on GPUs.
    pub(super) fn worker(&self) -> &Path {
        &self.worker.path
    }

    /// What reads them.
    pub(super) fn system(&self) -> &Arc<SystemMonitor> {
        &self.system
    }

    /// Whether a model of this wish is on the CPU, whatever devices there are.
    pub(super) fn is_for_cpu(&self, requested: &RequestedDevice) -> bool {
        match requested {
            RequestedDevice::Cpu => true,
            RequestedDevice::Auto => !self.worker.installed || self.gpu_driver_is_absent(),
            RequestedDevice::Cuda | RequestedDevice::Ordinal(_) | RequestedDevice::Uuid(_) => false,
        }
    }

    /// The device for the model `id` of this wish, `None` for the CPU. Waits for the GPU driver, for a bounded
    /// time. Where the choice is left, it is the device that has the most memory that is neither in use nor
    /// promised. From then on the model counts among those that are on their way there, with what it `needs`
    /// if that is known.
    ///
    /// # Errors
    ///
    /// When the GPU driver, the device or the worker for it is missing.
    pub(super) async fn choose(
        self: Arc<Self>,
        id: &ModelId,
        requested: &RequestedDevice,
        needs: impl Fn(&Gpu) -> Option<u64>,
        memory: &MemoryAdmission,
    ) -> Result<Option<(Gpu, PendingPlacement)>, Failure> {
        if self.is_for_cpu(requested) {
            return Ok(None);
        }
        if !self.worker.installed {
            return Err(self.worker_is_missing(requested));
        }
        let reading = self.system.fresh_devices(self.gpu_driver_timeout).await;
        let reading = reading.map_err(|_| unavailable(DRIVER, UNRESPONSIVE))?;
        let mut pending = self.pending();
        let Some(gpu) = pick(requested, &reading, memory, &pending)? else {
            return Ok(None);
        };
        pending.insert(id.clone(), (gpu.uuid.clone(), needs(&gpu)));
        drop(pending);
        let id = id.clone();
        let devices = self;
        Ok(Some((gpu, PendingPlacement { devices, id })))
    }

    /// As [`Self::choose`], by the last reading and without waiting. `None` too when it is not known.
    pub(super) fn likely(
        &self,
        requested: &RequestedDevice,
        memory: &MemoryAdmission,
    ) -> Option<Gpu> {
        if self.is_for_cpu(requested) || !self.worker.installed {
            return None;
        }
        pick(requested, &self.system.devices(), memory, &self.pending()).ok()?
    }

    fn gpu_driver_is_absent(&self) -> bool {
        matches!(self.system.devices().driver, GpuDriver::Absent(_))
    }

    fn worker_is_missing(&self, requested: &RequestedDevice) -> Failure {
        let mut message = format!(
            "a model on {requested} needs the CUDA worker, and there is no {}; install hangar-worker-cuda beside hangar, \
             or give --worker-cuda, and start hangar again",
            self.worker.path.display()
        );
        if let Err(Missing::NoGpuDriver(why)) = usable(&self.system.devices()) {
            message.push_str("; besides, ");
            message.push_str(&why);
        }
        unavailable("hangar-worker-cuda", &message)
    }

    fn pending(&self) -> MutexGuard<'_, PendingPlacements> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PendingPlacement {
    fn drop(&mut self) {
        self.devices.pending().remove(&self.id);
    }
}

/// Why no device can be used.
enum Missing {
    /// There is no GPU driver.
    NoGpuDriver(String),
    /// There is one that does not answer as it should.
    GpuDriverFails(String),
}

impl From<Missing> for Failure {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::NoGpuDriver(why) | Missing::GpuDriverFails(why) => unavailable(DRIVER, &why),
        }
    }
}

/// The library that devices are found with; it comes with the GPU driver.
const DRIVER: &str = "libnvidia-ml.so.1";

/// The message about a GPU driver that hangs.
const UNRESPONSIVE: &str = "the NVIDIA driver does not answer; see what nvidia-smi says, or give the model the device \
                      \"cpu\"";

fn pick(
    requested: &RequestedDevice,
    reading: &DeviceReading,
    memory: &MemoryAdmission,
    pending: &PendingPlacements,
) -> Result<Option<Gpu>, Failure> {
    let devices = match usable(reading) {
        Ok(devices) => devices,
        Err(Missing::NoGpuDriver(_)) if *requested == RequestedDevice::Auto => return Ok(None),
        Err(missing) => return Err(missing.into()),
    };
    let mut each = devices.iter();
    let chosen = match requested {
        RequestedDevice::Auto | RequestedDevice::Cuda | RequestedDevice::Cpu => {
            let free = |device: &&Device| {
                let free = memory.free_on(device);
                // Of equals the first.
                let rank = std::cmp::Reverse(device.ordinal);
                (free.saturating_sub(expected_on(device, pending)), rank)
            };
            each.max_by_key(free)
        }
        RequestedDevice::Ordinal(ordinal) => each.find(|d| d.ordinal == *ordinal),
        RequestedDevice::Uuid(uuid) => each.find(|d| d.uuid.eq_ignore_ascii_case(uuid)),
    };
    match chosen {
        Some(device) => Ok(Some(Gpu::of(device))),
        None if *requested == RequestedDevice::Auto => Ok(None),
        None => Err(no_such_device(requested, devices)),
    }
}

/// What the models that are on their way to `device` will take of it, in bytes, as far as that is known.
fn expected_on(device: &Device, pending: &PendingPlacements) -> u64 {
    let there = pending.values().filter(|(uuid, _)| **uuid == *device.uuid);
    there
        .map(|(_, need)| need.unwrap_or(device.memory_total_bytes / UNKNOWN_NEED))
        .fold(0, u64::saturating_add)
}

fn usable(reading: &DeviceReading) -> Result<&[Device], Missing> {
    match (&reading.driver, &reading.error) {
        (GpuDriver::Absent(why), _) => Err(Missing::NoGpuDriver(format!(
            "the NVIDIA driver is missing ({DRIVER}: {why}); install the driver, in a container let the NVIDIA runtime \
             bring it, or give the model the device \"cpu\""
        ))),
        (GpuDriver::Broken(why), _) | (_, Some(why)) => Err(Missing::GpuDriverFails(format!(
            "the NVIDIA driver does not work: {why}; see what nvidia-smi says"
        ))),
        (GpuDriver::Unresponsive, None) => Err(Missing::GpuDriverFails(UNRESPONSIVE.to_owned())),
        (GpuDriver::Works, None) => Ok(&reading.devices),
    }
}

fn no_such_device(requested: &RequestedDevice, devices: &[Device]) -> Failure {
    let known: Vec<_> = devices
        .iter()
        .map(|device| format!("cuda:{} ({}, {})", device.ordinal, device.name, device.uuid))
        .collect();
    let message = if known.is_empty() {
        format!("there is no {requested}: the NVIDIA driver knows no device")
    } else {
        format!(
            "there is no {requested}; there are {}: {}",
            known.len(),
            known.join(", ")
        )
    };
    unavailable(requested.to_string(), &message)
}

fn unavailable(what: impl Into<String>, message: &str) -> Failure {
    Failure::new(Reason::DeviceUnavailable, message).about(what)
}
