//! What those get to hear whose model does not fit.

use bytesize::ByteSize;

use crate::{
    lifecycle::{gpu::Gpu, ledger::with_headroom},
    model::{Failure, Reason},
};

/// Memory that is too small, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shortage {
    /// Whose memory; `None`: the host's.
    pub(super) of: Option<Gpu>,
    pub(super) need: u64,
    /// What the model may have.
    pub(super) free: u64,
    /// What evictions would add to that.
    pub(super) evictable: u64,
}

impl From<Shortage> for Failure {
    fn from(shortage: Shortage) -> Self {
        let (whose, there, advice) = match &shortage.of {
            None => (String::new(), "", "a quantization or a smaller dtype"),
            Some(gpu) => (
                format!(" on {gpu}"),
                " there",
                "a smaller max_concurrency, a quantization, a smaller dtype, or another device",
            ),
        };
        let message = format!(
            "the model needs about {} of memory{whose}, {} with headroom, {} is free{there} and evicting idle models \
             would add {}; unload other models{there}, or give it a shorter context_length, {advice}",
            iec(shortage.need),
            iec(with_headroom(shortage.need)),
            iec(shortage.free),
            iec(shortage.evictable),
        );
        let failure = Self::new(Reason::InsufficientMemory, message);
        match &shortage.of {
            Some(gpu) => failure.about(format!("memory of {}", gpu.device_name())),
            None => failure,
        }
    }
}

/// `bytes` in words, by the units that are powers of 1024.
pub(in crate::lifecycle) fn iec(bytes: u64) -> impl std::fmt::Display {
    ByteSize(bytes).display().iec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(of: Option<Gpu>) -> Failure {
        let shortage = Shortage {
            of,
            need: 10 << 30,
            free: 11 << 30,
            evictable: 1 << 30,
        };
        shortage.into()
    }

    #[bounded::test]
    fn a_refusal_names_the_numbers() {
        let refusal = refused(None);
        assert_eq!(refusal.reason, Reason::InsufficientMemory);
        assert_eq!(refusal.subject, None);
        for number in ["10.0 GiB", "12.0 GiB", "11.0 GiB", "1.0 GiB"] {
            assert!(refusal.message.contains(number), "{}", refusal.message);
        }
    }

    #[bounded::test]
    fn a_refusal_names_the_device() {
        let refusal = refused(Some(Gpu {
            uuid: "GPU-1".into(),
            ordinal: 3,
            name: "H100".to_owned(),
        }));
        assert_eq!(refusal.subject.as_deref(), Some("memory of cuda:GPU-1"));
        let panic_message = ["device 3", "H100", "GPU-1", "12.0 GiB", "11.0 GiB"];
        for word in panic_message {
            assert!(refusal.message.contains(word), "{}", refusal.message);
        }
    }
}
