//! A place for a model: a load slot on a device that was chosen.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::{
    lifecycle::{
        context::Context,
        device_release::DeviceSnapshot,
        devices::PendingPlacement,
        gpu::{DEVICE_READ_TIMEOUT, Gpu},
        load_slots::{LoadSlot, Rank},
    },
    model::{DeviceName, Failure, ModelId, Reason, RequestedDevice, Spec},
};

/// A load slot on a device that was chosen.
pub(in crate::lifecycle::driver) struct Placement {
    pub(in crate::lifecycle::driver) slot: LoadSlot,
    /// `None`: the device is the CPU.
    pub(in crate::lifecycle::driver) gpu: Option<OnGpu>,
    /// Until the model has a reservation there.
    pub(in crate::lifecycle::driver) pending: Option<PendingPlacement>,
    /// What the spec asks for.
    pub(in crate::lifecycle::driver) requested: Option<RequestedDevice>,
}

/// A placement that is waited for.
pub(in crate::lifecycle::driver) enum PlacementRequest {
    /// On the CPU.
    Cpu {
        slot: BoxFuture<'static, LoadSlot>,
        /// What the spec asks for of devices.
        requested: Option<RequestedDevice>,
    },
    /// The device is still to be chosen, or its queue is waited in.
    Device(BoxFuture<'static, Result<Placement, Failure>>),
}

/// The GPU that a model is on, or will be.
#[derive(Clone, Debug)]
pub(in crate::lifecycle::driver) struct OnGpu {
    pub(in crate::lifecycle::driver) gpu: Gpu,
    /// How it was before the worker was started.
    pub(in crate::lifecycle::driver) before: DeviceSnapshot,
    /// How it was when the worker was seen last.
    pub(in crate::lifecycle::driver) last: DeviceSnapshot,
    /// What it lost by the load, in bytes, where that could be seen.
    pub(in crate::lifecycle::driver) allocated: Option<u64>,
}

impl PlacementRequest {
    /// The placement that was waited for. Safe to cancel; not to be called again after it.
    pub(in crate::lifecycle::driver) async fn granted(&mut self) -> Result<Placement, Failure> {
        match self {
            Self::Cpu { slot, requested } => Ok(Placement {
                slot: slot.await,
                gpu: None,
                pending: None,
                requested: requested.clone(),
            }),
            Self::Device(placement) => placement.await,
        }
    }
}

/// Waits for a slot on the device for the model `id`, and looks at the device. Dropped, it leaves the queue.
pub(in crate::lifecycle::driver) async fn find_placement(
    context: Arc<Context>,
    id: ModelId,
    spec: Arc<Spec>,
    requested: RequestedDevice,
    rank: Rank,
) -> Result<Placement, Failure> {
    let learned = context
        .model(&id)
        .map(|model| model.facts().learned.clone());
    let learned = learned.unwrap_or_default();
    let needs = |gpu: &Gpu| context.known_need(&spec, &learned, Some(gpu)).1;
    let devices = context.devices.clone();
    let chosen = devices
        .choose(&id, &requested, needs, &context.memory)
        .await?;
    let (gpu, pending) = chosen.unzip();
    let device = gpu.as_ref().map_or(DeviceName::Cpu, Gpu::device_name);
    let slot = context.slots.take(&device, rank).await;
    let gpu = match gpu {
        Some(gpu) => Some(snapshot_device(&context, &id, gpu).await?),
        None => None,
    };
    Ok(Placement {
        slot,
        gpu,
        pending,
        requested: spec.device.clone(),
    })
}

/// Looks at `gpu` before the worker of the model `id` is started on it.
async fn snapshot_device(context: &Context, id: &ModelId, gpu: Gpu) -> Result<OnGpu, Failure> {
    let reading = context
        .devices
        .system()
        .fresh_devices(DEVICE_READ_TIMEOUT)
        .await;
    let seen = reading
        .ok()
        .and_then(|reading| DeviceSnapshot::of(&reading, &gpu, id, None, context));
    match seen {
        Some(before) => Ok(OnGpu {
            gpu,
            last: before.clone(),
            before,
            allocated: None,
        }),
        None => {
            let message = format!(
                "{gpu} cannot be used: the driver does not tell of it any more; see what nvidia-smi says"
            );
            let failure = Failure::new(Reason::DeviceUnavailable, message);
            Err(failure.about(gpu.device_name()))
        }
    }
}
