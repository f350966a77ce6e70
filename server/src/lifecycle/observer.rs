//! What is seen of a worker from outside: its progress, its memory, and whether it still moves.

use std::{sync::Arc, sync::Mutex, sync::PoisonError, time::Duration};

use hangar_client::worker::v1::{ModelInspection, ProgressMeasure, WatchStatsResponse};
use tokio::time::Instant;

use super::{Limits, admission::Crowd};
use crate::{
    model::{Failure, KvBlocks, Memory, Reason},
    system::SystemMonitor,
    worker::Reading,
};

/// Watches one worker.
#[derive(Debug)]
pub(super) struct Observer {
    pid: u32,
    pulse: Pulse,
    /// Where the device is read that the worker is on, and its UUID.
    device: Option<(Arc<SystemMonitor>, Arc<str>)>,
    last: Reading,
    moved: Moved,
    weights: Option<Weights>,
}

/// How the bytes of a load are observed.
#[derive(Clone, Copy, Debug)]
struct Weights {
    measure: ProgressMeasure,
    total: u64,
    baseline: Option<(Reading, Instant)>,
}

/// When the worker was last seen to move in a load, and where it stood then.
#[derive(Clone, Copy, Debug)]
struct Moved {
    at: Instant,
    reading: Reading,
}

/// What the worker says of its engine.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulse(Arc<Mutex<Beat>>);

#[derive(Clone, Copy, Debug, Default)]
struct Beat {
    steps: u64,
    prefill_tokens: u64,
    stepped: Option<Instant>,
    heard: Option<Instant>,
    device_bytes: u64,
    kv_blocks: KvBlocks,
}

/// Processor time that counts as movement: more than what a worker uses that only waits.
const MOVEMENT: Duration = Duration::from_millis(200);

/// How old a reading of a device may be that a worker is on.
const REFRESH: Duration = Duration::from_secs(1);

// === impl Observer ===

impl Observer {
    /// Watches the worker `pid`, which was just started, on the CPU or on the device of this UUID.
    pub(super) fn new(
        pid: u32,
        pulse: Pulse,
        device: Option<(Arc<SystemMonitor>, Arc<str>)>,
    ) -> Self {
        let reading = Reading::take(pid).unwrap_or_default();
        Self {
            pid,
            pulse,
            device,
            last: reading,
            moved: Moved {
                at: Instant::now(),
                reading,
            },
            weights: None,
        }
    }

    /// The worker is about to read what it has inspected.
    pub(super) fn begin_load(&mut self, inspection: &ModelInspection) {
        let baseline = Reading::take(self.pid).map(|reading| (reading, Instant::now()));
        self.weights = Some(Weights {
            measure: inspection.progress_measure(),
            total: inspection.weight_bytes,
            baseline,
        });
    }

    /// The worker has no reason to move at present.
    pub(super) fn excuse(&mut self) {
        self.moved.at = Instant::now();
    }

    /// Looks at the worker.
    pub(super) fn look(&mut self) {
        let Some(reading) = Reading::take(self.pid) else {
            return;
        };
        self.last = reading;
        self.last.memory.device_bytes = self.device_bytes();
        let before = self.moved.reading;
        let bytes = reading.rss_file > before.rss_file || reading.read_chars > before.read_chars;
        if bytes || reading.cpu_time >= before.cpu_time + MOVEMENT {
            self.moved = Moved {
                at: Instant::now(),
                reading,
            };
        }
    }

    /// What the worker has of its device, in bytes: what it says, else what the driver said last. Zero when
    /// nobody tells.
    fn device_bytes(&self) -> u64 {
        let Some((system, uuid)) = &self.device else {
            return 0;
        };
        system.refresh_devices(REFRESH);
        match self.pulse.beat().device_bytes {
            0 => {
                let reading = system.devices();
                let device = reading.device(uuid);
                device
                    .and_then(|device| device.bytes_of(self.pid))
                    .unwrap_or_default()
            }
            told => told,
        }
    }

    /// The blocks of the engine's KV cache, as the worker told last, if it keeps its cache in blocks.
    pub(super) fn kv_blocks(&self) -> Option<KvBlocks> {
        let blocks = self.pulse.beat().kv_blocks;
        (blocks.total > 0).then_some(blocks)
    }

    /// What the worker holds, as of the last look.
    pub(super) fn memory(&self) -> Memory {
        self.last.memory
    }

    /// Looks, and gives what the worker holds now.
    pub(super) fn memory_now(&mut self) -> Memory {
        self.look();
        self.last.memory
    }

    /// Bytes of the weights.
    pub(super) fn weight_bytes(&self) -> u64 {
        self.weights.map_or(0, |weights| weights.total)
    }

    /// Bytes of the weights that were seen to be read, and for how long they have been.
    pub(super) fn bytes_read(&self) -> Option<(u64, Duration)> {
        let weights = self.weights?;
        let (baseline, began) = weights.baseline?;
        let bytes = match weights.measure {
            ProgressMeasure::RssFile => self.last.rss_file.saturating_sub(baseline.rss_file),
            ProgressMeasure::ReadChars => self.last.read_chars.saturating_sub(baseline.read_chars),
            ProgressMeasure::Unspecified => return None,
        };
        Some((bytes, began.elapsed()))
    }

    /// The failure of a load that no longer moves.
    pub(super) fn stalled(&self, limits: &Limits) -> Option<Failure> {
        let gib = self.weight_bytes() as f64 / f64::from(1 << 30);
        let limit = limits.stall_timeout + limits.stall_timeout_per_gib.mul_f64(gib);
        let still = self.moved.at.elapsed();
        (still > limit).then(|| {
            let message = format!(
                "the load has neither read a byte nor used the processor for {:.1} s; check the disk that the model \
                 is on, then load again",
                still.as_secs_f64()
            );
            Failure::new(Reason::LoadStalled, message)
        })
    }

    /// The failure of an engine that has work and no longer steps.
    pub(super) fn hung(&self, crowd: Crowd, limits: &Limits) -> Option<Failure> {
        let beat = self.pulse.beat();
        if crowd.aside > 0
            && beat
                .heard
                .is_some_and(|heard| heard.elapsed() > limits.hang_timeout)
        {
            let message =
                "the worker has not been heard of while calls waited for it; it was killed";
            return Some(Failure::new(Reason::WorkerHung, message));
        }
        let busy_since = crowd.busy_since?;
        let reading = u32::try_from(beat.prefill_tokens).unwrap_or(u32::MAX);
        let limit =
            limits.hang_timeout + limits.hang_timeout_per_prompt_token.saturating_mul(reading);
        let still = beat
            .stepped
            .map_or(busy_since, |stepped| stepped.max(busy_since))
            .elapsed();
        (still > limit).then(|| {
            let message = format!(
                "the engine made no step for {:.1} s with {} requests running; its worker was killed",
                still.as_secs_f64(),
                crowd.running
            );
            Failure::new(Reason::WorkerHung, message)
        })
    }
}

// === impl Pulse ===

impl Pulse {
    /// Takes note of what the worker says.
    pub(super) fn beats(&self, stats: &WatchStatsResponse) {
        let mut beat = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if stats.steps != beat.steps {
            beat.stepped = Some(Instant::now());
        }
        beat.heard = Some(Instant::now());
        beat.steps = stats.steps;
        beat.prefill_tokens = stats.prefill_tokens;
        beat.device_bytes = stats.device_bytes;
        beat.kv_blocks = KvBlocks {
            used: stats.kv_blocks_used,
            total: stats.kv_blocks_total,
        };
    }

    fn beat(&self) -> Beat {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
