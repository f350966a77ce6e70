//! How much of a GPU's memory the load of a model has taken.
//!
//! The driver reports only what is free on the whole device. So what is reported here is how far that has fallen since
//! the load began, on a thread that samples it until the load ends, and from then on what it had come to.
//! The server lets few loads run on a device at a time; where another process has changed the device's
//! memory so far meanwhile that the figure cannot be right, what the load is known to need stands instead.

use std::{
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use candle_core::Device;

use crate::{failure::Failure, stats::Stats};

/// Time between two samples.
const INTERVAL: Duration = Duration::from_millis(100);

/// How far a load may go beyond what it is known to need: the engine's kernels, workspaces and allocator.
const SLACK: u64 = 4 << 30;

/// Samples a GPU's memory while a model is loaded.
pub(crate) struct MemorySampler {
    end: SyncSender<()>,
    thread: JoinHandle<()>,
    device: Device,
    at_start: u64,
    stats: Arc<Stats>,
}

impl MemorySampler {
    /// Begins to sample into `stats`. `None` for a device whose memory is not its own.
    pub(crate) fn start(device: &Device, stats: &Arc<Stats>) -> Result<Option<Self>, Failure> {
        let Some(at_start) = free(device) else {
            return Ok(None);
        };
        let (end, ended) = sync_channel::<()>(1);
        let (watched, updated) = (device.clone(), Arc::clone(stats));
        let thread = std::thread::Builder::new()
            .name("device-memory".into())
            .spawn(move || {
                while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(INTERVAL) {
                    if let Some(free) = free(&watched) {
                        updated.set_device_bytes(at_start.saturating_sub(free));
                    }
                }
            })
            .map_err(|e| Failure::internal(format!("no thread could be started: {e}")))?;
        Ok(Some(Self {
            end,
            thread,
            device: device.clone(),
            at_start,
            stats: Arc::clone(stats),
        }))
    }

    /// The load has ended, and is known to have taken at least `known` bytes.
    pub(crate) fn finish(self, known: u64) {
        drop(self.end);
        // It does nothing that could panic.
        let _ = self.thread.join();
        let fallen = free(&self.device).map(|free| self.at_start.saturating_sub(free));
        self.stats.set_device_bytes(taken(fallen, known));
    }
}

/// What the load has taken, where what is free has fallen by `fallen`.
fn taken(fallen: Option<u64>, known: u64) -> u64 {
    fallen
        .filter(|fallen| (known..=known.saturating_add(SLACK)).contains(fallen))
        .unwrap_or(known)
}

#[cfg(feature = "cuda")]
fn free(device: &Device) -> Option<u64> {
    let Device::Cuda(device) = device else {
        return None;
    };
    let (free, _total) = device.cuda_stream().context().mem_get_info().ok()?;
    Some(free as u64)
}

#[cfg(not(feature = "cuda"))]
fn free(_device: &Device) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[bounded::test]
    fn memory_seen_to_be_taken_counts_if_it_is_about_what_was_expected() {
        assert_eq!(taken(Some(17 * GIB), 16 * GIB), 17 * GIB);
        assert_eq!(taken(Some(16 * GIB), 16 * GIB), 16 * GIB);
    }

    #[bounded::test]
    fn implausible_readings_of_taken_memory_give_way_to_what_was_expected() {
        assert_eq!(taken(Some(15 * GIB), 16 * GIB), 16 * GIB);
        assert_eq!(taken(Some(40 * GIB), 16 * GIB), 16 * GIB);
        assert_eq!(taken(None, 16 * GIB), 16 * GIB);
    }

    #[bounded::test]
    fn the_processor_has_no_memory_of_its_own() {
        let stats = Arc::default();
        let sampler = MemorySampler::start(&Device::Cpu, &stats).expect("no thread is needed");
        assert!(sampler.is_none());
    }
}
