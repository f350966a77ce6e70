//! What the devices are called that models are on.

use std::{fmt, sync::Arc, time::Duration};

use crate::{model::DeviceName, system::Device};

/// The GPU that a model is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gpu {
    pub(super) uuid: Arc<str>,
    pub(super) ordinal: u32,
    pub(super) name: String,
}

/// Name of a worker's GPU to that worker, which sees no other.
pub(super) const ONLY_GPU: DeviceName = DeviceName::Ordinal(0);

/// How long a device is waited for whose memory is read before a model is let in or placed on it.
pub(super) const DEVICE_READ_TIMEOUT: Duration = Duration::from_secs(5);

impl Gpu {
    pub(super) fn of(device: &Device) -> Self {
        Self {
            uuid: device.uuid.as_str().into(),
            ordinal: device.ordinal,
            name: device.name.clone(),
        }
    }

    /// Its name among the devices: what a spec that wants it says, and what a model's metadata has.
    pub(super) fn device_name(&self) -> DeviceName {
        DeviceName::Uuid(self.uuid.clone())
    }
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {} ({}, {})", self.ordinal, self.name, self.uuid)
    }
}
