//! Where a model is.

use std::{fmt, str::FromStr, sync::Arc};

use super::{
    device::{CPU, PREFIX, ordinal},
    text::{deserialize_from_text, serialize_to_text},
};

/// The device that a model is on, or was.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceName {
    /// The CPU.
    #[default]
    Cpu,
    /// The GPU at this position among those that whoever names it sees: to a worker, its own is the first.
    Ordinal(u32),
    /// The GPU of this UUID, as its driver writes it.
    Uuid(Arc<str>),
}

/// A text that names no device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be \"cpu\", or \"cuda:\" and the ordinal or UUID of a GPU")]
pub struct InvalidDeviceName;

deserialize_from_text!(DeviceName);
serialize_to_text!(DeviceName);

impl FromStr for DeviceName {
    type Err = InvalidDeviceName;

    /// The device of the name `text`. UUIDs are taken as they are: what has them is found by them, or is not there.
    fn from_str(text: &str) -> Result<Self, InvalidDeviceName> {
        if text == CPU {
            return Ok(Self::Cpu);
        }
        match text.strip_prefix(PREFIX) {
            None | Some("") => Err(InvalidDeviceName),
            Some(gpu) => Ok(ordinal(gpu).map_or_else(|| Self::Uuid(gpu.into()), Self::Ordinal)),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str(CPU),
            Self::Ordinal(ordinal) => write!(f, "{PREFIX}{ordinal}"),
            Self::Uuid(uuid) => write!(f, "{PREFIX}{uuid}"),
        }
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn every_name_is_read_and_written() {
        for (text, name) in [
            ("cpu", DeviceName::Cpu),
            ("cuda:0", DeviceName::Ordinal(0)),
            ("cuda:12", DeviceName::Ordinal(12)),
            ("cuda:GPU-0a-Ff", DeviceName::Uuid("GPU-0a-Ff".into())),
            ("cuda:MIG-1", DeviceName::Uuid("MIG-1".into())),
            ("cuda:00", DeviceName::Uuid("00".into())),
        ] {
            assert_eq!(text.parse().as_ref(), Ok(&name), "{text}");
            assert_eq!(name.to_string(), text);
        }
    }

    #[bounded::test]
    fn everything_else_is_not() {
        for text in ["", "CPU", "cuda", "cuda:", "auto", "GPU-0", " cpu"] {
            assert_eq!(text.parse::<DeviceName>(), Err(InvalidDeviceName), "{text}");
        }
    }
}
