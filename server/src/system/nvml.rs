//! NVIDIA's devices, through the management library that comes with the driver.
//!
//! The library is opened when the server runs: the binary needs none.

use nvml_wrapper::{
    Device as Handle, Nvml as Library, cuda_driver_version_major, cuda_driver_version_minor,
    enums::device::UsedGpuMemory, error::NvmlError, struct_wrappers::device::ProcessInfo,
};

use super::devices::{Device, DeviceProcess, DeviceSource, GpuDriverError};

/// The opened library.
#[derive(Debug)]
pub struct Nvml(Library);

impl Nvml {
    /// Opens the library. May take as long as the driver likes.
    ///
    /// # Errors
    ///
    /// See [`GpuDriverError`].
    pub fn open() -> Result<Self, GpuDriverError> {
        Library::init().map(Self).map_err(|error| match error {
            NvmlError::LibloadingError(_)
            | NvmlError::LibraryNotFound
            | NvmlError::DriverNotLoaded => GpuDriverError::Absent(error.to_string()),
            error => GpuDriverError::Broken(format!("NVML: {error}")),
        })
    }

    fn device(&self, ordinal: u32, versions: &Versions) -> Result<Device, NvmlError> {
        let device = self.0.device_by_index(ordinal)?;
        let memory = device.memory_info()?;
        let busy = device.utilization_rates().ok();
        Ok(Device {
            uuid: device.uuid()?,
            ordinal,
            name: device.name()?,
            memory_total_bytes: memory.total,
            memory_free_bytes: memory.free,
            utilization: busy.map(|busy| f64::from(busy.gpu) / 100.0),
            driver_version: versions.driver.clone(),
            cuda_version: versions.cuda.clone(),
            processes: processes(&device),
        })
    }

    fn versions(&self) -> Versions {
        let cuda = self.0.sys_cuda_driver_version().map(cuda_version);
        Versions {
            driver: self.0.sys_driver_version().unwrap_or_default(),
            cuda: cuda.unwrap_or_default(),
        }
    }
}

impl DeviceSource for Nvml {
    fn read(&mut self) -> Result<Vec<Device>, String> {
        let count = self.0.device_count().map_err(|error| error.to_string())?;
        let versions = self.versions();
        let read = |ordinal| match self.device(ordinal, &versions) {
            Ok(device) => Some(device),
            Err(error) => {
                // It has fallen off the bus, or is not for this user.
                tracing::debug!(ordinal, %error, "a device cannot be read");
                None
            }
        };
        Ok((0..count).filter_map(read).collect())
    }
}

/// Processes that compute on `device`, if the driver reports them.
fn processes(device: &Handle<'_>) -> Option<Vec<DeviceProcess>> {
    let reported = |process: ProcessInfo| DeviceProcess {
        pid: process.pid,
        bytes: match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        },
    };
    let processes = device.running_compute_processes().ok()?;
    Some(processes.into_iter().map(reported).collect())
}

struct Versions {
    driver: String,
    cuda: String,
}

fn cuda_version(version: i32) -> String {
    let major = cuda_driver_version_major(version);
    format!("{major}.{}", cuda_driver_version_minor(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn the_version_of_cuda_is_taken_apart() {
        assert_eq!(cuda_version(12_040), "12.4");
        assert_eq!(cuda_version(13_000), "13.0");
    }

    #[bounded::test]
    fn a_machine_lists_its_devices_or_has_none() {
        match Nvml::open() {
            Ok(mut nvml) => {
                for device in nvml.read().expect("a driver that answers") {
                    assert!(device.memory_free_bytes <= device.memory_total_bytes);
                    assert!(device.uuid.starts_with("GPU-"), "{device:?}");
                }
            }
            Err(GpuDriverError::Absent(why) | GpuDriverError::Broken(why)) => {
                assert!(!why.is_empty())
            }
        }
    }
}
