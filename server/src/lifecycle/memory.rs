//! Whether a model fits into the host's memory.

use std::sync::Arc;

use bytesize::ByteSize;

use crate::{
    model::{Failure, Reason},
    system::SystemMonitor,
};

/// What there is of memory.
#[derive(Clone, Debug)]
pub struct Memory(Arc<SystemMonitor>);

/// What a model is given beyond its expected need: estimates are wrong, and a system without any free
/// memory is of no use.
const HEADROOM: f64 = 1.2;

// === impl Memory ===

impl Memory {
    /// Memory as `system` sees it, limits of the container included.
    pub fn new(system: Arc<SystemMonitor>) -> Self {
        Self(system)
    }

    /// The failure of a model that is expected to need `need` bytes, if it does not fit.
    pub(super) fn refuse(&self, need: u64) -> Option<Failure> {
        refuse(need, self.0.sample().memory_available_bytes)
    }
}

fn refuse(need: u64, available: u64) -> Option<Failure> {
    let with_headroom = need as f64 * HEADROOM;
    (with_headroom > available as f64).then(|| {
        let message = format!(
            "the model needs about {} of memory, {} with headroom, and {} is available; unload other models, or give \
             it a shorter context_length or a smaller dtype",
            iec(need),
            iec(with_headroom as u64),
            iec(available),
        );
        Failure::new(Reason::InsufficientMemory, message)
    })
}

fn iec(bytes: u64) -> impl std::fmt::Display {
    ByteSize(bytes).display().iec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_the_numbers() {
        assert_eq!(refuse(100, 120), None);
        let refusal = refuse(10 << 30, 11 << 30).expect("12 GiB do not fit into 11");
        assert_eq!(refusal.reason, Reason::InsufficientMemory);
        for number in ["10.0 GiB", "12.0 GiB", "11.0 GiB"] {
            assert!(refusal.message.contains(number), "{}", refusal.message);
        }
    }
}
