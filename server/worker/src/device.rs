//! The device that a model is computed on: the processor, or the one GPU that this process sees.
//!
//! A GPU is looked for before any file is read, so that a load on a machine without one fails at once and
//! says what is missing. Nothing of the driver's is called on the way to the processor, so that a build
//! with CUDA serves models there too.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(test, feature = "cuda"))]
mod cuda_error;
mod gpu;
pub(crate) mod memory;

use candle_core::Device;
pub(crate) use gpu::Gpu;
use hangar_client::v1::DataType;

use crate::failure::Failure;

/// The only GPU that a worker sees, by its ordinal.
const GPU: &str = "cuda:0";

/// A device that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TargetDevice {
    /// The processor.
    Cpu,
    /// A GPU.
    Gpu(Gpu),
}

impl TargetDevice {
    /// Finds the device that the server's configuration names.
    pub(crate) fn find(name: &str) -> Result<Self, Failure> {
        match name {
            "" | "cpu" => Ok(Self::Cpu),
            GPU => find_gpu().map(Self::Gpu),
            other => Err(Failure::device(format!(
                "The device is {other}, but a worker knows only cpu and {GPU}, the one GPU that the server \
                 lets it see."
            ))),
        }
    }

    /// The device for the engine.
    pub(crate) fn open(&self) -> Result<Device, Failure> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Gpu(_) => open_gpu(),
        }
    }

    /// Whether it is a GPU.
    pub(crate) fn is_gpu(&self) -> bool {
        matches!(self, Self::Gpu(_))
    }

    /// Its name in a model's metadata.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Cpu => "cpu".to_owned(),
            Self::Gpu(gpu) => format!("cuda:{}", gpu.uuid),
        }
    }

    /// The data type that it computes well in. On the processor that is F32 for weights that are stored
    /// so, else F16, and on a GPU BF16 where its tensor cores have that (since capability 8.0), else F16.
    pub(crate) fn best_dtype(&self, stored_as_f32: bool) -> DataType {
        match self {
            Self::Cpu if stored_as_f32 => DataType::F32,
            Self::Cpu => DataType::F16,
            Self::Gpu(gpu) if gpu.capability >= (8, 0) => DataType::Bf16,
            Self::Gpu(_) => DataType::F16,
        }
    }
}

#[cfg(feature = "cuda")]
fn find_gpu() -> Result<Gpu, Failure> {
    cuda::find()
}

#[cfg(feature = "cuda")]
fn open_gpu() -> Result<Device, Failure> {
    cuda::open()
}

#[cfg(not(feature = "cuda"))]
fn find_gpu() -> Result<Gpu, Failure> {
    Err(without_cuda())
}

#[cfg(not(feature = "cuda"))]
fn open_gpu() -> Result<Device, Failure> {
    Err(without_cuda())
}

#[cfg(not(feature = "cuda"))]
fn without_cuda() -> Failure {
    Failure::device(
        "The device is a GPU, but this worker was built for the CPU only. Build hangar-worker-cuda with \
         deploy/cuda/build and put it beside the server, or set the device to cpu.",
    )
}

#[cfg(test)]
mod tests {
    use hangar_worker_protocol::FailureReason;

    use super::*;

    fn gpu(capability: (u32, u32)) -> TargetDevice {
        TargetDevice::Gpu(Gpu {
            uuid: "GPU-1".into(),
            capability,
            memory: 80 << 30,
        })
    }

    #[bounded::test]
    fn a_build_without_cuda_refuses_a_gpu_and_says_what_to_do() {
        assert_eq!(
            TargetDevice::find("cpu").expect("the processor"),
            TargetDevice::Cpu
        );
        assert_eq!(
            TargetDevice::find("").expect("the processor"),
            TargetDevice::Cpu
        );
        #[cfg(not(feature = "cuda"))]
        {
            let failure = TargetDevice::find("cuda:0").expect_err("no GPU");
            assert_eq!(failure.reason, FailureReason::DeviceUnavailable);
            for words in ["built for the CPU only", "deploy/cuda/build"] {
                assert!(failure.message.contains(words), "{failure}");
            }
        }
    }

    #[bounded::test]
    fn other_devices_are_refused() {
        for name in ["cuda:1", "cuda", "tpu"] {
            let failure = TargetDevice::find(name).expect_err(name);
            assert_eq!(failure.reason, FailureReason::DeviceUnavailable);
            assert!(failure.message.contains(name), "{failure}");
        }
    }

    #[bounded::test]
    fn each_device_has_a_data_type_that_it_computes_well_in() {
        assert_eq!(TargetDevice::Cpu.best_dtype(true), DataType::F32);
        assert_eq!(TargetDevice::Cpu.best_dtype(false), DataType::F16);
        assert_eq!(gpu((7, 5)).best_dtype(false), DataType::F16);
        assert_eq!(gpu((8, 0)).best_dtype(true), DataType::Bf16);
        assert_eq!(gpu((9, 0)).best_dtype(false), DataType::Bf16);
    }

    #[bounded::test]
    fn a_gpu_is_named_by_its_uuid() {
        assert_eq!(gpu((9, 0)).name(), "cuda:GPU-1");
        assert_eq!(TargetDevice::Cpu.name(), "cpu");
    }
}
