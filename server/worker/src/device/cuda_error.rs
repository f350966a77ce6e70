//! What CUDA's driver says, in words that a person can act upon.

use crate::failure::Failure;

/// Codes of `CUresult` that say why there is no GPU to be used, and what to do then.
const CODES: [(u32, &str); 9] = [
    (
        2,
        "The GPU has not enough memory left for the driver's own needs: unload other models from it.",
    ),
    (
        34,
        "The libcuda.so.1 that was found is a stub to link with. Install NVIDIA's driver (580 or later), and \
         take the stub's directory from LD_LIBRARY_PATH.",
    ),
    (
        46,
        "The GPU is in use by another process that has it to itself. Look with nvidia-smi for the process, or \
         set the compute mode to default.",
    ),
    (
        100,
        "There is no GPU. Look with nvidia-smi whether the driver sees one; a container needs the NVIDIA \
         container toolkit and a GPU given to it.",
    ),
    (
        101,
        "There is no such GPU. Look with nvidia-smi whether the driver still sees it.",
    ),
    (
        802,
        "The system is not ready for CUDA: a machine with NVSwitch needs nvidia-fabricmanager to run.",
    ),
    (
        803,
        "The driver's library and its kernel module are of different versions. Restart the machine after an \
         update of the driver.",
    ),
    (
        804,
        "The driver is older than CUDA 13.0 needs, and this GPU does not allow a newer library with it. Install \
         NVIDIA's driver 580 or later.",
    ),
    (
        999,
        "The driver does not answer. Look with nvidia-smi whether it works, and whether /dev/nvidia0, \
         /dev/nvidiactl and /dev/nvidia-uvm are there and may be opened.",
    ),
];

/// The driver refused with that code, which it calls `name`.
pub(super) fn unavailable(code: u32, name: &str) -> Failure {
    let advice = CODES
        .iter()
        .find(|(known, _)| *known == code)
        .map_or("Look with nvidia-smi whether the driver works.", |found| {
            found.1
        });
    Failure::device(format!(
        "The GPU cannot be used: the driver answers {name} ({code}). {advice}"
    ))
}

/// Whether kernels that were compiled for the capability `built`, such as "90", run on a GPU.
///
/// Code for 9.0 and later is compiled with what only that one capability has (sm_90a), older code runs on
/// later ones of the same first number
/// (docs.nvidia.com/cuda/cuda-c-programming-guide, "Binary Compatibility").
pub(super) fn check_capability(
    built: &str,
    capability: (u32, u32),
    device: &str,
) -> Result<(), Failure> {
    let Some(for_) = parse(built) else {
        return Ok(());
    };
    let runs = match for_ {
        (9.., _) => capability == for_,
        _ => capability.0 == for_.0 && capability.1 >= for_.1,
    };
    if runs {
        return Ok(());
    }
    let ((major, minor), (has_major, has_minor)) = (for_, capability);
    Err(Failure::device(format!(
        "This hangar-worker-cuda was built for GPUs of capability {major}.{minor}, but {device} has \
         {has_major}.{has_minor}. Build it with deploy/cuda/build --capability {has_major}{has_minor}."
    )))
}

/// "90" is 9.0 and "120" is 12.0.
fn parse(built: &str) -> Option<(u32, u32)> {
    let number: u32 = built.parse().ok()?;
    Some((number / 10, number % 10))
}

/// The UUID as the driver's tools print it.
pub(super) fn uuid(bytes: &[u8; 16]) -> String {
    let mut text = "GPU".to_owned();
    for (index, byte) in bytes.iter().enumerate() {
        if [0, 4, 6, 8, 10].contains(&index) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use hangar_worker_protocol::FailureReason;

    use super::*;

    #[bounded::test]
    fn what_is_missing_is_named() {
        for (code, words) in [
            (100, "no GPU"),
            (34, "stub"),
            (804, "580"),
            (7, "nvidia-smi"),
        ] {
            let failure = unavailable(code, "CUDA_ERROR_X");
            assert_eq!(failure.reason, FailureReason::DeviceUnavailable);
            assert!(failure.message.contains(words), "{failure}");
            let name = format!("CUDA_ERROR_X ({code})");
            assert!(failure.message.contains(&name), "{failure}");
        }
    }

    #[bounded::test]
    fn a_build_runs_on_what_it_was_built_for() {
        let runs = |built, capability| check_capability(built, capability, "X").is_ok();
        assert!(runs("90", (9, 0)) && runs("120", (12, 0)));
        assert!(runs("80", (8, 0)) && runs("80", (8, 6)) && runs("89", (8, 9)));
        assert!(!runs("90", (8, 0)) && !runs("80", (9, 0)) && !runs("89", (8, 6)));
        assert!(!runs("100", (10, 3)) && !runs("100", (12, 0)));
    }

    #[bounded::test]
    fn a_refusal_says_how_to_build_the_right_worker() {
        let failure = check_capability("90", (8, 9), "NVIDIA L4").expect_err("refused");
        for words in ["9.0", "NVIDIA L4", "8.9", "--capability 89"] {
            assert!(failure.message.contains(words), "{failure}");
        }
    }

    #[bounded::test]
    fn a_uuid_is_written_as_the_tools_do() {
        let bytes: [u8; 16] = std::array::from_fn(|index| index as u8 * 16);
        assert_eq!(uuid(&bytes), "GPU-00102030-4050-6070-8090-a0b0c0d0e0f0");
    }
}
