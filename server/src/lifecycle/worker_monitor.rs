//! What is seen of a worker from outside: its progress, its memory, and whether it still moves.
//!
//! Three things have to move: the worker as a whole, which reports all the time; its engine, while that has
//! requests; and whoever makes requests ready for it. A caller that goes is no step of the engine: it counts what the
//! worker says to have, and not who waits for it.

mod hang;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    LifecycleLimits,
    activity::{ActivityReading, ActivityTotals, ActivityTracker},
    admission::Occupancy,
};
use crate::{
    model::{Failure, KvBlocks, ModelMemory, Pace, Reason},
    system::SystemMonitor,
    worker::{EngineStats, Inspection, ProcessReading, ProgressMeasure},
};

/// Watches one worker.
#[derive(Debug)]
pub(super) struct WorkerMonitor {
    pid: u32,
    heartbeat: WorkerHeartbeat,
    /// Where the device is read that the worker is on, and its UUID.
    device: Option<(Arc<SystemMonitor>, Arc<str>)>,
    last: ProcessReading,
    load: ActivityTracker,
    /// The worker as a whole, since it was heard of last.
    process: ActivityTracker,
    /// How often it was heard of.
    reports: u64,
    /// Whoever has to do the `pending` work: the engine, or those before it. Begins anew when that changes.
    engine: ActivityTracker,
    pending: PendingWork,
    weights: Option<LoadedBytes>,
}

/// How the bytes of a load are observed.
#[derive(Clone, Copy, Debug)]
struct LoadedBytes {
    measure: Option<ProgressMeasure>,
    total: u64,
    baseline: Option<(ProcessReading, Instant)>,
}

/// What the worker says of its engine.
#[derive(Clone, Debug, Default)]
pub(super) struct WorkerHeartbeat(Arc<Mutex<LatestStats>>);

#[derive(Clone, Copy, Debug, Default)]
struct LatestStats {
    /// How often the worker reported.
    reports: u64,
    engine: EngineStats,
}

/// What is to be done for requests. When it has changed, somebody got ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PendingWork {
    /// Nothing.
    None,
    /// Requests that came since then are made ready for the engine, which has made so many steps.
    Prepare { since: Instant, steps: u64 },
    /// The engine has requests, and has made so many steps.
    Compute { steps: u64 },
}

/// How old a reading of a device may be that a worker is on.
const REFRESH: Duration = Duration::from_secs(1);

/// How old a reading may be that says whether a device works: an older one is of a GPU driver that does not answer.
const STALE: Duration = Duration::from_secs(4);

impl WorkerMonitor {
    /// Watches the worker `pid`, which was just started, on the CPU or on the device of this UUID.
    pub(super) fn new(
        pid: u32,
        heartbeat: WorkerHeartbeat,
        device: Option<(Arc<SystemMonitor>, Arc<str>)>,
    ) -> Self {
        let reading = ProcessReading::take(pid).unwrap_or_default();
        let tracker = || ActivityTracker::new(ActivityTotals::of(&reading));
        Self {
            pid,
            heartbeat,
            device,
            last: reading,
            load: tracker(),
            process: tracker(),
            reports: 0,
            engine: tracker(),
            pending: PendingWork::None,
            weights: None,
        }
    }

    /// The worker is about to read what it has inspected.
    pub(super) fn begin_load(&mut self, inspection: &Inspection) {
        let baseline = ProcessReading::take(self.pid).map(|reading| (reading, Instant::now()));
        self.weights = Some(LoadedBytes {
            measure: inspection.progress_measure,
            total: inspection.weight_bytes,
            baseline,
        });
    }

    /// The worker has no reason to move at present.
    pub(super) fn reset_inactivity(&mut self) {
        self.load.reset_inactivity();
    }

    /// Looks at the worker.
    pub(super) fn observe(&mut self) {
        let Some(reading) = ProcessReading::take(self.pid) else {
            return;
        };
        self.last = reading;
        self.last.memory.device_bytes = self.device_bytes();
    }

    /// Takes note of whether the worker moved in its load, as of the last look.
    pub(super) fn follow_load(&mut self, limits: &LifecycleLimits) {
        let reading = ActivityReading {
            reads: true,
            device: self.device_works(),
            ..self.process_reading(self.stall_limit(limits))
        };
        self.load.observe(reading);
    }

    /// Takes note of whether the worker moved, and its engine for those who wait for it, as of the last look.
    pub(super) fn follow_service(&mut self, occupancy: &Occupancy, limits: &LifecycleLimits) {
        let limit = limits.hang_timeout;
        let LatestStats { reports, engine } = self.heartbeat.stats();
        if reports == self.reports {
            // What the engine did since is not known.
            self.process.observe(self.process_reading(limit));
            return;
        }
        self.reports = reports;
        self.process.progressed(ActivityTotals::of(&self.last));
        let pending = PendingWork::of(&engine, occupancy);
        let reading = match pending {
            // What else the worker is asked for is not the engine's work.
            PendingWork::Compute { .. } => ActivityReading {
                totals: ActivityTotals::of_engine(engine.cpu_time),
                descendants: None,
                reads: false,
                device: self.device_works(),
                limit,
            },
            PendingWork::Prepare { .. } | PendingWork::None => self.process_reading(limit),
        };
        if pending != self.pending {
            self.pending = pending;
            self.engine.progressed(reading.totals);
        } else if pending != PendingWork::None {
            self.engine.observe(reading);
        }
    }

    /// What the last look has shown of the worker as a whole, which may stand still for so long.
    fn process_reading(&self, limit: Duration) -> ActivityReading {
        ActivityReading {
            totals: ActivityTotals::of(&self.last),
            descendants: Some(self.last.descendants_cpu_time),
            reads: false,
            device: false,
            limit,
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
        fresh && reading.error.is_none() && busy
    }

    /// What the worker has of its device, in bytes: what it reports, else what the GPU driver reported last. Zero when
    /// nobody says.
    fn device_bytes(&self) -> u64 {
        let Some((system, uuid)) = &self.device else {
            return 0;
        };
        system.refresh_devices(REFRESH);
        match self.heartbeat.engine().device_bytes {
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

    /// The blocks of the engine's KV cache, as the worker reported last, if it keeps its cache in blocks.
    pub(super) fn kv_blocks(&self) -> Option<KvBlocks> {
        let blocks = self.heartbeat.engine().kv_blocks;
        (blocks.total > 0).then_some(blocks)
    }

    /// What the worker and its descendants hold, as of the last look.
    pub(super) fn memory(&self) -> ModelMemory {
        self.last.memory
    }

    /// What the worker alone holds of the host, in bytes, without its descendants, as of the last look.
    pub(super) fn own_bytes(&self) -> u64 {
        self.last.own_bytes
    }

    /// Looks, and gives what the worker holds now.
    pub(super) fn memory_now(&mut self) -> ModelMemory {
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

    /// What the worker reported last of its engine.
    pub(super) fn engine(&self) -> EngineStats {
        self.heartbeat.engine()
    }

    /// How quickly the engine works, if that was seen.
    pub(super) fn pace(&self) -> Option<Pace> {
        self.heartbeat.engine().pace
    }

    fn stall_limit(&self, limits: &LifecycleLimits) -> Duration {
        let gib = self.weight_bytes() as f64 / f64::from(1 << 30);
        limits.stall_timeout + limits.stall_timeout_per_gib.mul_f64(gib)
    }

    /// The failure of a load that no longer moves.
    pub(super) fn stalled(&self, limits: &LifecycleLimits) -> Option<Failure> {
        let inactive_for = self.load.inactive_for();
        (inactive_for > self.stall_limit(limits)).then(|| {
            let message = format!(
                "the load has neither read a byte nor used the processor for {:.1} s; check the disk that the model \
                 is on, then load again",
                inactive_for.as_secs_f64()
            );
            Failure::new(Reason::LoadStalled, message)
        })
    }
}

impl WorkerHeartbeat {
    /// Takes note of what the worker says.
    pub(super) fn record(&self, reported: &EngineStats) {
        let mut stats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stats.reports += 1;
        stats.engine = EngineStats {
            // Its clocks are not read all at once.
            cpu_time: stats.engine.cpu_time.max(reported.cpu_time),
            ..*reported
        };
    }

    fn stats(&self) -> LatestStats {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn engine(&self) -> EngineStats {
        self.stats().engine
    }
}

impl PendingWork {
    fn of(engine: &EngineStats, occupancy: &Occupancy) -> Self {
        let steps = engine.steps;
        match occupancy.busy_since {
            _ if engine.in_flight > 0 => Self::Compute { steps },
            Some(since) => Self::Prepare { since, steps },
            None => Self::None,
        }
    }
}
