//! Whether a device has its memory back once a worker has gone.
//!
//! Invariant: nothing counts as back that was not seen to be. What other models took or gave meanwhile
//! is allowed for, and what other processes did is allowed for and reported.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{command::Verification, context::Context, gpu::Gpu, memory::iec};
use crate::{
    model::{Failure, ModelId, Reason},
    system::DeviceReading,
};

/// A device at one moment, as it looks to the one model that it is looked at for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DeviceSnapshot {
    /// Free memory in bytes.
    free: u64,
    /// What the model's own worker holds, in bytes, where the GPU driver says so.
    own: Option<u64>,
    /// Whether the GPU driver reports any of this server's workers. Else the ids that it reports are not those of
    /// this container, and nobody knows which processes are not this server's.
    sees_workers: bool,
    /// What other models hold, in bytes.
    others: u64,
    /// What others that are going were seen to hold and may not hold any more, in bytes.
    leaving: u64,
    /// Processes that are none of this server's workers and what they hold, by id.
    other_processes: BTreeMap<u32, u64>,
}

/// A worker that is gone, and the device whose memory it had.
pub(super) struct DeviceRelease {
    pub(super) context: Arc<Context>,
    pub(super) model: ModelId,
    pub(super) pid: Option<u32>,
    pub(super) gpu: Gpu,
    /// The device before the worker was started.
    pub(super) before: DeviceSnapshot,
    /// The device when the worker was asked to go, or was seen last.
    pub(super) last: DeviceSnapshot,
    /// What the device lost by the load, in bytes, where that could be seen.
    pub(super) allocated: Option<u64>,
}

/// What was seen of a device after a worker had gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReleaseOutcome {
    /// What to make of it.
    pub(super) verification: Verification,
    /// Memory that came back, in bytes.
    pub(super) bytes: u64,
    /// Why, where it did not come back.
    pub(super) failure: Option<Failure>,
}

/// How far a device may be from what it was for its memory to be back, in bytes.
const TOLERANCE: u64 = 64 << 20;

/// Between two readings: the first, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_millis(500);

impl DeviceSnapshot {
    /// The device `gpu` in `reading`, to the model `id`, whose worker is or was the process `own`. `None` when
    /// the GPU driver does not know the device.
    pub(super) fn of(
        reading: &DeviceReading,
        gpu: &Gpu,
        id: &ModelId,
        own: Option<u32>,
        context: &Context,
    ) -> Option<Self> {
        let device = reading.device(&gpu.uuid)?;
        let pid = |id: &ModelId| context.model(id)?.status().worker_pid;
        let workers = context.worker_pids();
        let mut snapshot = Self {
            free: device.memory_free_bytes,
            own: own.and_then(|pid| device.bytes_of(pid)),
            ..Self::default()
        };
        for process in device.processes.iter().flatten() {
            let bytes = process.bytes.unwrap_or_default();
            let is_own = Some(process.pid) == own;
            let is_worker = is_own || workers.contains(&process.pid);
            snapshot.sees_workers |= is_worker;
            if !is_worker {
                snapshot.other_processes.insert(process.pid, bytes);
            } else if !is_own {
                snapshot.others += bytes;
            }
        }
        // Those that the GPU driver does not report are taken by what they claim.
        let others = context.memory.others_on(&gpu.uuid, id);
        let unreported = |holdings: Vec<(ModelId, u64)>| -> u64 {
            let unreported = holdings.into_iter().filter(|(other, _)| {
                let reported = pid(other).and_then(|pid| device.bytes_of(pid));
                reported.is_none()
            });
            unreported.map(|(_, bytes)| bytes).sum()
        };
        snapshot.others += unreported(others.staying);
        snapshot.leaving = unreported(others.leaving) + others.unreclaimed;
        Some(snapshot)
    }

    /// What the model's own worker holds, in bytes, where the GPU driver says so.
    pub(super) fn own(&self) -> Option<u64> {
        self.own
    }

    /// What the device lost since `self`, in bytes, that neither other models nor other processes have, as
    /// seen from `now`; `None` when it gained.
    pub(super) fn allocated(&self, now: &Self) -> Option<u64> {
        let allocated = if now.sees_workers {
            self.missing(now)
        } else {
            let (then, now) = (self.clone(), now.clone());
            then.without_other_processes()
                .missing(&now.without_other_processes())
        };
        u64::try_from(allocated).ok()
    }

    /// How much less the device has free `now` than it should: than it had at `self`, changed by what other models and
    /// processes took or gave since. Less than zero when it has more. What a model that is going has not given back yet
    /// counts as missing; where that was so at `self`, what it has given back since counts as too much.
    fn missing(&self, now: &Self) -> i128 {
        let others = i128::from(self.others) - i128::from(now.others);
        let other_processes = self.held_by_other_processes() - now.held_by_other_processes();
        i128::from(self.free) + others + other_processes - i128::from(now.free)
    }

    /// As one who does not know other processes from workers sees it.
    fn without_other_processes(self) -> Self {
        Self {
            other_processes: BTreeMap::new(),
            ..self
        }
    }

    fn held_by_other_processes(&self) -> i128 {
        self.other_processes
            .values()
            .map(|bytes| i128::from(*bytes))
            .sum()
    }

    /// Whether the device, which was `self` before the load, has its memory back `now`, and how that is known; `None`: it
    /// has not.
    fn verify(&self, now: &Self) -> Option<Verification> {
        let missing = self.missing(now);
        let tolerance = i128::from(TOLERANCE);
        if missing > tolerance {
            None
        } else if missing < -tolerance - i128::from(self.leaving)
            || self.other_processes != now.other_processes
        {
            Some(Verification::SharedDevice)
        } else {
            Some(Verification::DeviceObserved)
        }
    }

    /// What came back between `self`, with the worker, and `now`, without it.
    fn freed(&self, now: &Self) -> u64 {
        u64::try_from((-self.missing(now)).max(0)).unwrap_or(u64::MAX)
    }
}

impl DeviceRelease {
    /// Reads the device until its memory is back, or for at most the time `timeout`.
    pub(super) async fn observe(mut self, timeout: Duration) -> ReleaseOutcome {
        if !self.last.sees_workers {
            self.before = self.before.without_other_processes();
            self.last = self.last.without_other_processes();
        }
        let deadline = Instant::now() + timeout;
        let mut wait = FIRST_WAIT;
        let mut seen = None;
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if let Some(now) = self.read_device(remaining.max(FIRST_WAIT)).await {
                if let Some(verification) = self.verify(&now) {
                    return ReleaseOutcome {
                        verification,
                        bytes: self.freed(&now),
                        failure: None,
                    };
                }
                seen = Some(now);
            }
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return self.given_up(seen.as_ref(), timeout);
            }
            tokio::time::sleep(wait.min(remaining)).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn read_device(&self, timeout: Duration) -> Option<DeviceSnapshot> {
        let system = self.context.devices.system();
        let reading = system.fresh_devices(timeout).await.ok()?;
        if reading.error.is_some() {
            return None;
        }
        let snapshot =
            DeviceSnapshot::of(&reading, &self.gpu, &self.model, self.pid, &self.context)?;
        Some(if self.last.sees_workers {
            snapshot
        } else {
            snapshot.without_other_processes()
        })
    }

    fn verify(&self, now: &DeviceSnapshot) -> Option<Verification> {
        let verification = self.before.verify(now);
        if verification.is_some() || self.last.own.is_some() || now.others == 0 {
            return verification;
        }
        // The GPU driver does not say what the other models there hold, and they may have grown since. Then what
        // has come back is compared with what this one took.
        let back = self.last.freed(now).saturating_add(TOLERANCE);
        let enough = self.allocated.is_some_and(|allocated| back >= allocated);
        enough.then_some(Verification::SharedDevice)
    }

    /// What came back of what the model held. What others gave back as they went is not counted in, as far as
    /// it is known what was the model's own.
    fn freed(&self, now: &DeviceSnapshot) -> u64 {
        let freed = self.last.freed(now);
        match self.last.own.or(self.allocated) {
            Some(own) if self.last.leaving > 0 => freed.min(own),
            _ => freed,
        }
    }

    fn given_up(&self, seen: Option<&DeviceSnapshot>, timeout: Duration) -> ReleaseOutcome {
        let within = timeout.as_secs_f64();
        let gpu = &self.gpu;
        let message = match seen {
            Some(now) => {
                let missing = u64::try_from(self.before.missing(now)).unwrap_or_default();
                format!(
                    "the worker has gone, and {} of {gpu} were not seen to come back within {within:.1} s; see \
                     nvidia-smi for who holds them",
                    iec(missing)
                )
            }
            None => format!(
                "the worker has gone, and the NVIDIA driver did not tell within {within:.1} s whether the memory of \
                 {gpu} came back; see what nvidia-smi says"
            ),
        };
        tracing::warn!(model = %self.model, device = %gpu, message, "device memory did not come back");
        ReleaseOutcome {
            verification: Verification::TimedOut,
            bytes: seen.map_or(0, |now| self.freed(now)),
            failure: Some(Failure::new(Reason::DeviceMemoryHeld, message).about(gpu.device_name())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn snapshot(free: u64, others: u64, other_processes: &[(u32, u64)]) -> DeviceSnapshot {
        let other_processes = other_processes.iter().map(|(pid, mib)| (*pid, mib * MIB));
        DeviceSnapshot {
            free: free * MIB,
            own: None,
            sees_workers: true,
            others: others * MIB,
            leaving: 0,
            other_processes: other_processes.collect(),
        }
    }

    #[bounded::test]
    fn memory_is_back_within_64_mib() {
        let before = snapshot(1000, 0, &[]);
        let verification = |free| before.verify(&snapshot(free, 0, &[]));
        assert_eq!(verification(1000), Some(Verification::DeviceObserved));
        assert_eq!(verification(936), Some(Verification::DeviceObserved));
        assert_eq!(verification(935), None);
    }

    #[bounded::test]
    fn what_other_models_took_or_gave_is_allowed_for() {
        let before = snapshot(1000, 300, &[]);
        let verification = |free, others| before.verify(&snapshot(free, others, &[]));
        assert_eq!(verification(800, 500), Some(Verification::DeviceObserved));
        assert_eq!(verification(1300, 0), Some(Verification::DeviceObserved));
        assert_eq!(
            verification(1000, 0),
            None,
            "the others gave 300, and it shows"
        );
    }

    #[bounded::test]
    fn other_processes_are_allowed_for_and_reported() {
        let before = snapshot(1000, 0, &[(7, 100)]);
        let verification =
            |free, other_processes: &[_]| before.verify(&snapshot(free, 0, other_processes));
        assert_eq!(
            verification(1000, &[(7, 100)]),
            Some(Verification::DeviceObserved)
        );
        assert_eq!(
            verification(500, &[(7, 600)]),
            Some(Verification::SharedDevice)
        );
        assert_eq!(verification(1100, &[]), Some(Verification::SharedDevice));
        assert_eq!(verification(500, &[(7, 100)]), None);
        // More than there was, and nobody says from whom.
        assert_eq!(
            verification(1200, &[(7, 100)]),
            Some(Verification::SharedDevice)
        );
    }

    #[bounded::test]
    fn what_those_hold_that_are_going_is_theirs_or_free() {
        let going = |free| DeviceSnapshot {
            leaving: 300 * MIB,
            ..snapshot(free, 0, &[])
        };
        // One that was there and goes too: it has its memory still, or not any more.
        let before = snapshot(700, 300, &[]);
        assert_eq!(before.verify(&going(700)), None);
        let all = Some(Verification::DeviceObserved);
        assert_eq!(before.verify(&going(1000)), all);
        // One that was going then has gone.
        assert_eq!(going(700).verify(&snapshot(1000, 0, &[])), all);
        assert_eq!(going(700).verify(&snapshot(700, 0, &[])), all);
        let more = Some(Verification::SharedDevice);
        assert_eq!(going(700).verify(&snapshot(1100, 0, &[])), more);
    }

    #[bounded::test]
    fn what_came_back_is_what_the_device_gained_by_it() {
        let last = snapshot(200, 300, &[(7, 100)]);
        assert_eq!(last.freed(&snapshot(700, 300, &[(7, 100)])), 500 * MIB);
        assert_eq!(last.freed(&snapshot(700, 200, &[(7, 100)])), 400 * MIB);
        assert_eq!(last.freed(&snapshot(700, 300, &[])), 400 * MIB);
        assert_eq!(last.freed(&snapshot(100, 300, &[(7, 100)])), 0);
    }
}
