//! What is seen of a worker from outside: its progress, its memory, and whether it still moves.

use std::{sync::Arc, sync::Mutex, sync::PoisonError, time::Duration};

use tokio::time::Instant;

use super::{
    Limits,
    activity::{ActivityTracker, Observation},
    admission::Occupancy,
};
use crate::{
    model::{Failure, KvBlocks, Memory, Pace, Reason},
    system::SystemMonitor,
    worker::{EngineStats, Inspection, ProgressMeasure, Reading},
};

/// Watches one worker.
#[derive(Debug)]
pub(super) struct WorkerMonitor {
    pid: u32,
    heartbeat: WorkerHeartbeat,
    /// Where the device is read that the worker is on, and its UUID.
    device: Option<(Arc<SystemMonitor>, Arc<str>)>,
    last: Reading,
    activity: ActivityTracker,
    /// Since when requests run, and the steps that were made, as of the last look.
    progress: (Option<Instant>, u64),
    weights: Option<Weights>,
}

/// How the bytes of a load are observed.
#[derive(Clone, Copy, Debug)]
struct Weights {
    measure: Option<ProgressMeasure>,
    total: u64,
    baseline: Option<(Reading, Instant)>,
}

/// What the worker says of its engine.
#[derive(Clone, Debug, Default)]
pub(super) struct WorkerHeartbeat(Arc<Mutex<LatestStats>>);

#[derive(Clone, Copy, Debug, Default)]
struct LatestStats {
    steps: u64,
    prefill_tokens: u64,
    stepped: Option<Instant>,
    received: Option<Instant>,
    device_bytes: u64,
    kv_blocks: KvBlocks,
    prompts: PromptLengths,
    pace: Option<Pace>,
}

/// Lengths of prompts in tokens, as the worker told them last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PromptLengths {
    /// Of the longest one that is being read.
    pub(super) reading: u64,
    /// Of the longest one that has been read.
    pub(super) longest_read: u64,
}

/// How much longer than its pace says an engine may work at a prompt.
const SPIN_FACTOR: f64 = 10.0;

/// How old a reading of a device may be that a worker is on.
const REFRESH: Duration = Duration::from_secs(1);

/// How old a reading may be that tells whether a device works: an older one is of a driver that does not answer.
const STALE: Duration = Duration::from_secs(4);

// === impl WorkerMonitor ===

impl WorkerMonitor {
    /// Watches the worker `pid`, which was just started, on the CPU or on the device of this UUID.
    pub(super) fn new(
        pid: u32,
        heartbeat: WorkerHeartbeat,
        device: Option<(Arc<SystemMonitor>, Arc<str>)>,
    ) -> Self {
        let reading = Reading::take(pid).unwrap_or_default();
        Self {
            pid,
            heartbeat,
            device,
            last: reading,
            activity: ActivityTracker::new(pid, &reading),
            progress: (None, 0),
            weights: None,
        }
    }

    /// The worker is about to read what it has inspected.
    pub(super) fn begin_load(&mut self, inspection: &Inspection) {
        let baseline = Reading::take(self.pid).map(|reading| (reading, Instant::now()));
        self.weights = Some(Weights {
            measure: inspection.progress_measure,
            total: inspection.weight_bytes,
            baseline,
        });
    }

    /// The worker has no reason to move at present.
    pub(super) fn reset_inactivity(&mut self) {
        self.activity.reset_inactivity();
    }

    /// Looks at the worker.
    pub(super) fn observe(&mut self) {
        let Some(reading) = Reading::take(self.pid) else {
            return;
        };
        self.last = reading;
        self.last.memory.device_bytes = self.device_bytes();
    }

    /// Takes note of whether the worker moved in its load, as of the last look.
    pub(super) fn follow_load(&mut self, limits: &Limits) {
        let observation = Observation {
            reads: true,
            device: self.device_works(),
            limit: self.stall_limit(limits),
        };
        self.activity.observe(&self.last, observation);
    }

    /// Takes note of whether the engine moved for those inside, as of the last look.
    pub(super) fn follow_engine(&mut self, occupancy: &Occupancy, limits: &Limits) {
        let progress = (occupancy.busy_since, self.heartbeat.stats().steps);
        if progress != self.progress {
            self.progress = progress;
            self.activity.progressed(&self.last);
        } else if occupancy.busy_since.is_some() || occupancy.unscheduled > 0 {
            let observation = Observation {
                reads: false,
                device: self.device_works(),
                limit: limits.hang_timeout,
            };
            self.activity.observe(&self.last, observation);
        }
    }

    /// Whether the worker's device was busy when it was read last, be it for the worker or for others.
    fn device_works(&self) -> bool {
        let Some((system, uuid)) = &self.device else {
            return false;
        };
        let reading = system.devices();
        let fresh = reading.asked.is_some_and(|asked| asked.elapsed() < STALE);
        let busy = reading
            .device(uuid)
            .and_then(|device| device.utilization)
            .is_some_and(|share| share > 0.0);
        fresh && reading.trouble.is_none() && busy
    }

    /// What the worker has of its device, in bytes: what it says, else what the driver said last. Zero when
    /// nobody tells.
    fn device_bytes(&self) -> u64 {
        let Some((system, uuid)) = &self.device else {
            return 0;
        };
        system.refresh_devices(REFRESH);
        match self.heartbeat.stats().device_bytes {
            0 => {
                let reading = system.devices();
                let device = reading.device(uuid);
                device
                    .and_then(|device| device.bytes_of(self.pid))
                    .unwrap_or_default()
            }
            reported => reported,
        }
    }

    /// The blocks of the engine's KV cache, as the worker told last, if it keeps its cache in blocks.
    pub(super) fn kv_blocks(&self) -> Option<KvBlocks> {
        let blocks = self.heartbeat.stats().kv_blocks;
        (blocks.total > 0).then_some(blocks)
    }

    /// What the worker holds, as of the last look.
    pub(super) fn memory(&self) -> Memory {
        self.last.memory
    }

    /// Looks, and gives what the worker holds now.
    pub(super) fn memory_now(&mut self) -> Memory {
        self.observe();
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
            Some(ProgressMeasure::RssFile) => self.last.rss_file.saturating_sub(baseline.rss_file),
            Some(ProgressMeasure::ReadChars) => {
                self.last.read_chars.saturating_sub(baseline.read_chars)
            }
            None => return None,
        };
        Some((bytes, began.elapsed()))
    }

    /// What the worker tells of the prompts that it has.
    pub(super) fn prompts(&self) -> PromptLengths {
        self.heartbeat.stats().prompts
    }

    /// How quickly the engine works, if that was seen.
    pub(super) fn pace(&self) -> Option<Pace> {
        self.heartbeat.stats().pace
    }

    fn stall_limit(&self, limits: &Limits) -> Duration {
        let gib = self.weight_bytes() as f64 / f64::from(1 << 30);
        limits.stall_timeout + limits.stall_timeout_per_gib.mul_f64(gib)
    }

    /// The failure of a load that no longer moves.
    pub(super) fn stalled(&self, limits: &Limits) -> Option<Failure> {
        let inactive_for = self.activity.inactive_for(self.activity.last_active());
        (inactive_for > self.stall_limit(limits)).then(|| {
            let message = format!(
                "the load has neither read a byte nor used the processor for {:.1} s; check the disk that the model \
                 is on, then load again",
                inactive_for.as_secs_f64()
            );
            Failure::new(Reason::LoadStalled, message)
        })
    }

    /// The failure of an engine that has work and no longer moves, or works and gets nowhere although it had
    /// many times as long as its `pace` allows for.
    pub(super) fn hung(
        &self,
        occupancy: &Occupancy,
        limits: &Limits,
        pace: Option<Pace>,
    ) -> Option<Failure> {
        let stats = self.heartbeat.stats();
        if occupancy.unscheduled > 0
            && let Some(received) = stats.received
            && self.activity.inactive_for(received) > limits.hang_timeout
        {
            let message =
                "the worker has not been heard of while calls waited for it; it was killed";
            return Some(Failure::new(Reason::WorkerHung, message));
        }
        let busy_since = occupancy.busy_since?;
        let since = stats
            .stepped
            .map_or(busy_since, |stepped| stepped.max(busy_since));
        let inactive_for = self.activity.inactive_for(since);
        if inactive_for > limits.hang_timeout {
            let message = format!(
                "the engine neither made a step nor used the processor for {:.1} s with {} requests running; its \
                 worker was killed",
                inactive_for.as_secs_f64(),
                occupancy.running
            );
            return Some(Failure::new(Reason::WorkerHung, message));
        }
        let limit = spin_limit(limits, pace, stats.prefill_tokens);
        let worked = self.activity.worked();
        (worked > limit).then(|| {
            let message = format!(
                "the engine worked for {:.1} s without making a step, with {} requests running and {} tokens of \
                 prompts to read; its worker was killed. If it is only slow, raise --spin-timeout",
                worked.as_secs_f64(),
                occupancy.running,
                stats.prefill_tokens
            );
            Failure::new(Reason::WorkerHung, message)
        })
    }
}

/// How long an engine may work at prompts of so many tokens until it has made a step.
fn spin_limit(limits: &Limits, pace: Option<Pace>, prompt_tokens: u64) -> Duration {
    let tokens = prompt_tokens as f64;
    let known = pace.and_then(|pace| pace.prompt_tokens_per_second);
    let reading = match known {
        Some(rate) => SPIN_FACTOR * tokens / rate,
        None => limits.spin_timeout_per_prompt_token.as_secs_f64() * tokens,
    };
    let reading = Duration::try_from_secs_f64(reading).unwrap_or(Duration::MAX);
    limits.spin_timeout.saturating_add(reading)
}

// === impl WorkerHeartbeat ===

impl WorkerHeartbeat {
    /// Takes note of what the worker says.
    pub(super) fn record(&self, reported: &EngineStats) {
        let mut stats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.steps != stats.steps {
            stats.stepped = Some(Instant::now());
        }
        stats.received = Some(Instant::now());
        stats.steps = reported.steps;
        stats.prefill_tokens = reported.prefill_tokens;
        stats.device_bytes = reported.device_bytes;
        stats.kv_blocks = reported.kv_blocks;
        stats.prompts = PromptLengths {
            reading: reported.reading_tokens,
            longest_read: reported.longest_read_tokens,
        };
        stats.pace = reported.pace;
    }

    fn stats(&self) -> LatestStats {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
