//! Accelerators, as messages.

use hangar_client::v1::DeviceInfo;

use crate::{
    model::DeviceName,
    system::{Device, DeviceReading},
};

/// Memory that a model's worker holds on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceHolding {
    /// The device, as the model's metadata name it.
    pub(super) device: DeviceName,
    /// Bytes.
    pub(super) bytes: u64,
}

pub(super) fn devices(reading: &DeviceReading, holdings: &[DeviceHolding]) -> Vec<DeviceInfo> {
    let held = |device: &Device| {
        let on_it = holdings.iter().filter(|held| is_on(&held.device, device));
        on_it.map(|held| held.bytes).sum()
    };
    reading
        .devices
        .iter()
        .map(|device| DeviceInfo {
            uuid: device.uuid.clone(),
            ordinal: device.ordinal,
            name: device.name.clone(),
            memory_total_bytes: device.memory_total_bytes,
            memory_free_bytes: device.memory_free_bytes,
            memory_models_bytes: held(device),
            utilization: device.utilization,
            driver_version: device.driver_version.clone(),
            cuda_version: device.cuda_version.clone(),
            sampled_at: reading.sampled.map(Into::into),
        })
        .collect()
}

fn is_on(place: &DeviceName, device: &Device) -> bool {
    match place {
        DeviceName::Cpu => false,
        DeviceName::Ordinal(ordinal) => *ordinal == device.ordinal,
        DeviceName::Uuid(uuid) => **uuid == *device.uuid,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[bounded::test]
    fn memory_of_models_is_that_of_those_on_the_device() {
        let device = |ordinal, uuid: &str| Device {
            uuid: uuid.to_owned(),
            ordinal,
            ..Device::default()
        };
        let reading = DeviceReading {
            sampled: Some(SystemTime::UNIX_EPOCH),
            devices: vec![device(0, "GPU-a"), device(1, "GPU-b")],
            ..DeviceReading::default()
        };
        let held = [
            ("cuda:GPU-a", 1),
            ("cuda:0", 2),
            ("cuda:GPU-b", 4),
            ("cpu", 8),
            ("cuda:7", 16),
        ];
        let holdings = held.map(|(device, bytes)| DeviceHolding {
            device: device.parse().expect("a device"),
            bytes,
        });
        let reported = devices(&reading, &holdings);
        let bytes: Vec<_> = reported
            .iter()
            .map(|device| device.memory_models_bytes)
            .collect();
        assert_eq!(bytes, [3, 4]);
        assert!(reported.iter().all(|device| device.sampled_at.is_some()));
    }
}
