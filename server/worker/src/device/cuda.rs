//! The GPU through CUDA's driver.

use std::panic::catch_unwind;

use candle_core::{
    Device,
    cuda::cudarc::driver::{CudaContext, DriverError},
};

use super::{cuda_error, gpu::Gpu};
use crate::failure::{Failure, panic_message};

/// Capability that the kernels were compiled for, as the build was given it: "90" is 9.0. Empty: it was not.
const BUILT_FOR: &str = match option_env!("CUDA_COMPUTE_CAP") {
    Some(capability) => capability,
    None => "",
};

/// Finds the one GPU that this process sees, and whether this build runs on it.
pub(super) fn find() -> Result<Gpu, Failure> {
    catch_unwind(find_gpu).unwrap_or_else(|panic| {
        Err(Failure::device(format!(
            "The GPU's driver cannot be used: {}.",
            panic_message(&*panic)
        )))
    })
}

/// The GPU for the engine.
pub(super) fn open() -> Result<Device, Failure> {
    Device::new_cuda(0).map_err(|e| {
        Failure::device(format!(
            "The GPU was found but cannot be opened: {e}. Look with nvidia-smi whether its memory is full \
             or it reports errors."
        ))
    })
}

fn find_gpu() -> Result<Gpu, Failure> {
    let failed = |error: DriverError| {
        // Its name, and not what the driver says to it, which takes the driver.
        let code = error.0 as u32;
        cuda_error::unavailable(code, &format!("{:?}", error.0))
    };
    if CudaContext::device_count().map_err(failed)? < 1 {
        return Err(cuda_error::unavailable(100, "CUDA_ERROR_NO_DEVICE"));
    }
    let context = CudaContext::new(0).map_err(failed)?;
    let (major, minor) = context.compute_capability().map_err(failed)?;
    let capability = (major.unsigned_abs(), minor.unsigned_abs());
    let name = context.name().map_err(failed)?;
    cuda_error::check_capability(BUILT_FOR, capability, &name)?;
    let uuid = context.uuid().map_err(failed)?;
    Ok(Gpu {
        uuid: cuda_error::uuid(&uuid.bytes.map(|byte| byte as u8)),
        capability,
        memory: context.total_mem().map_err(failed)? as u64,
    })
}
