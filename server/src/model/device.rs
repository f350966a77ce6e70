//! Where a spec wants its model to be.

use std::{fmt, str::FromStr};

use super::text::{deserialize_from_text, serialize_to_text};

/// What a spec says of its model's device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RequestedDevice {
    /// The GPU with the most free memory where there is one and a CUDA worker is installed, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU with the most free memory.
    Cuda,
    /// The GPU at this position in the driver's list.
    Ordinal(u32),
    /// The GPU of this UUID.
    Uuid(String),
}

/// A text that names no device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be \"auto\", \"cpu\", \"cuda\", or \"cuda:\" and the ordinal or UUID of a GPU as GetInfo tells them"
)]
pub struct InvalidDevice;

/// The name of the CPU.
pub(super) const CPU: &str = "cpu";

/// What starts the name of a GPU.
pub(super) const PREFIX: &str = "cuda:";

/// Longest UUID in bytes: NVML's buffer.
const MAX_UUID: usize = 80;

deserialize_from_text!(RequestedDevice);
serialize_to_text!(RequestedDevice);

impl FromStr for RequestedDevice {
    type Err = InvalidDevice;

    /// The wish that `text` expresses: "auto", "cpu", "cuda", "cuda:ORDINAL" or "cuda:UUID".
    fn from_str(text: &str) -> Result<Self, InvalidDevice> {
        match text {
            "auto" => Ok(Self::Auto),
            CPU => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            other => {
                let name = other.strip_prefix(PREFIX).ok_or(InvalidDevice)?;
                let requested = ordinal(name).map(Self::Ordinal).or_else(|| uuid(name));
                requested.ok_or(InvalidDevice)
            }
        }
    }
}

impl fmt::Display for RequestedDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str(CPU),
            Self::Cuda => f.write_str("cuda"),
            Self::Ordinal(ordinal) => write!(f, "{PREFIX}{ordinal}"),
            Self::Uuid(uuid) => write!(f, "{PREFIX}{uuid}"),
        }
    }
}

/// The number that `name` writes in the one way in which ordinals are written.
pub(super) fn ordinal(name: &str) -> Option<u32> {
    let number: u32 = name.parse().ok()?;
    (number.to_string() == name).then_some(number)
}

fn uuid(name: &str) -> Option<RequestedDevice> {
    let digits = name.strip_prefix("GPU-")?;
    let right = !digits.is_empty()
        && name.len() <= MAX_UUID
        && digits.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    right.then(|| RequestedDevice::Uuid(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn every_way_to_name_a_device_is_read() {
        for (text, requested) in [
            ("auto", RequestedDevice::Auto),
            ("cpu", RequestedDevice::Cpu),
            ("cuda", RequestedDevice::Cuda),
            ("cuda:0", RequestedDevice::Ordinal(0)),
            ("cuda:12", RequestedDevice::Ordinal(12)),
            (
                "cuda:GPU-0a-Ff",
                RequestedDevice::Uuid("GPU-0a-Ff".to_owned()),
            ),
        ] {
            assert_eq!(text.parse().as_ref(), Ok(&requested), "{text}");
            assert_eq!(requested.to_string(), text);
        }
    }

    #[bounded::test]
    fn other_texts_name_no_device() {
        let long = format!("cuda:GPU-{}", "0".repeat(MAX_UUID));
        for text in [
            "",
            "tpu",
            "CPU",
            "cuda:",
            "cuda:-1",
            "cuda:+1",
            "cuda:00",
            "cuda:4294967296",
            "cuda:GPU-",
            "cuda:GPU-xyz",
            "cuda:0a-ff",
            "cuda:0,1",
            " cuda",
            &long,
        ] {
            assert_eq!(
                text.parse::<RequestedDevice>(),
                Err(InvalidDevice),
                "{text}"
            );
        }
    }
}
