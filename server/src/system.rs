//! What the machine, or the container, has and what of it is in use.
//!
//! Invariant: where control groups limit the process, the tightest limit on the way to the root counts;
//! a figure that cannot be read is the machine's, or zero, never a guess.

mod cgroup;
mod devices;
mod nvml;
mod proc;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use cgroup::Groups;
pub use devices::{Device, DeviceMonitor, DeviceReading, GpuDriver, GpuDriverUnresponsive};
pub use nvml::Nvml;
pub use proc::process_memory;
use proc::{CpuTime, MachineMemory};

/// Resources at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct SystemInfo {
    /// Cores that the server and its workers may use.
    pub cpu_cores: f64,
    /// Share of these cores in use, from 0 to 1, since an earlier sample (at least 200 ms). `None` before
    /// there is one.
    pub cpu_usage: Option<f64>,
    /// The tightest memory limit, or the machine's memory, in bytes.
    pub memory_total_bytes: u64,
    /// Memory that can still be taken without swapping, in bytes.
    pub memory_available_bytes: u64,
    /// Size of the directory's file system in bytes.
    pub disk_total_bytes: u64,
    /// What of it this user can still take, in bytes.
    pub disk_available_bytes: u64,
    /// RssAnon + RssShmem + VmSwap of the own process in bytes.
    pub memory_server_bytes: u64,
    /// When this was read.
    pub sampled: SystemTime,
}

/// Takes samples.
#[derive(Debug)]
pub struct SystemMonitor {
    groups: Groups,
    directory: PathBuf,
    cpu: Mutex<CpuMeter>,
    /// The last sample that was asked for, for whoever asks soon again.
    recent: Mutex<Option<RecentSample>>,
    devices: Option<DeviceMonitor>,
}

/// A sample, when it was begun, and what it was asked for after.
#[derive(Debug)]
struct RecentSample {
    at: Instant,
    mark: u64,
    info: Arc<SystemInfo>,
}

/// Turns processor time into a share.
#[derive(Debug, Default)]
struct CpuMeter {
    last: Option<(Instant, CpuTime)>,
    usage: Option<f64>,
}

/// Time between two readings of the processor time that makes for a meaningful share.
const CPU_WINDOW: Duration = Duration::from_millis(200);

/// Age at which a recent sample is read anew.
const MAX_AGE: Duration = Duration::from_millis(250);

impl SystemMonitor {
    /// A monitor of this machine and of the file system of `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let monitor = Self {
            groups: Groups::of_this_process(),
            directory: directory.into(),
            cpu: Mutex::default(),
            recent: Mutex::default(),
            devices: None,
        };
        monitor.cpu_usage(monitor.cpu_cores());
        monitor
    }

    /// With the devices that `monitor` reads.
    pub fn with_devices(mut self, monitor: DeviceMonitor) -> Self {
        self.devices = Some(monitor);
        self
    }

    /// Accelerators, as they were read last. Never waits.
    pub fn devices(&self) -> Arc<DeviceReading> {
        let monitor = self.devices.as_ref();
        monitor.map(DeviceMonitor::latest).unwrap_or_default()
    }

    /// Sees to it that what [`Self::devices`] gives is soon no older than `age`. Never waits.
    pub fn refresh_devices(&self, age: Duration) {
        if let Some(monitor) = &self.devices {
            monitor.refresh(age);
        }
    }

    /// Accelerators, as they are read from now on. Waits for at most the time `max_wait`.
    ///
    /// # Errors
    ///
    /// When the GPU driver does not answer in time.
    pub async fn fresh_devices(
        &self,
        max_wait: Duration,
    ) -> Result<Arc<DeviceReading>, GpuDriverUnresponsive> {
        match &self.devices {
            Some(monitor) => monitor.fresh(max_wait).await,
            None => Err(GpuDriverUnresponsive),
        }
    }

    /// Resources at most [`MAX_AGE`] ago, and after whatever gave `mark` its value. Whoever finds none so new reads them, as
    /// [`Self::sample`] does, for all who wait meanwhile.
    pub fn recent(&self, mark: u64) -> Arc<SystemInfo> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(RecentSample { at, mark: of, info }) = &*recent
            && *of == mark
            && at.elapsed() < MAX_AGE
        {
            return info.clone();
        }
        let at = Instant::now();
        let info = Arc::new(self.sample());
        *recent = Some(RecentSample {
            at,
            mark,
            info: info.clone(),
        });
        info
    }

    /// Resources now. Reads a few files of /proc and /sys.
    pub fn sample(&self) -> SystemInfo {
        let sampled = SystemTime::now();
        let cpu_cores = self.cpu_cores();
        let memory = self.memory();
        let (disk_total_bytes, disk_available_bytes) = self.disk();
        SystemInfo {
            cpu_cores,
            cpu_usage: self.cpu_usage(cpu_cores),
            memory_total_bytes: memory.total,
            memory_available_bytes: memory.available,
            disk_total_bytes,
            disk_available_bytes,
            memory_server_bytes: process_memory(std::process::id()).unwrap_or(0),
            sampled,
        }
    }

    /// Cores of the affinity mask, or fewer where a control group's quota allows fewer.
    fn cpu_cores(&self) -> f64 {
        let affinity = rustix::thread::sched_getaffinity(None).map_or_else(
            |_| std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
            |set| set.count(),
        );
        let cores = f64::from(affinity.max(1));
        self.groups
            .cpu_quota()
            .map_or(cores, |quota| quota.min(cores))
    }

    fn cpu_usage(&self, cores: f64) -> Option<f64> {
        let now = Instant::now();
        let time = match self.groups.cpu_time() {
            Some(used) => Some(CpuTime::Group { used, cores }),
            None => proc::read("/proc/stat").and_then(|text| CpuTime::of_machine(&text)),
        };
        let mut meter = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
        meter.advance(now, time?);
        meter.usage
    }

    fn memory(&self) -> MachineMemory {
        let machine = proc::read("/proc/meminfo")
            .and_then(|text| MachineMemory::parse(&text))
            .unwrap_or_default();
        let Some(group) = self.groups.memory() else {
            return machine;
        };
        MachineMemory {
            total: machine.total.min(group.total),
            available: machine.available.min(group.available),
        }
    }

    /// Size and available bytes; zero when the directory cannot be looked at.
    fn disk(&self) -> (u64, u64) {
        rustix::fs::statvfs(&self.directory).map_or((0, 0), |disk| {
            let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
            (bytes(disk.f_blocks), bytes(disk.f_bavail))
        })
    }
}

impl CpuMeter {
    /// Takes a reading. One that comes too soon after the last changes nothing.
    fn advance(&mut self, now: Instant, time: CpuTime) {
        match self.last {
            Some((at, last)) if now.duration_since(at) >= CPU_WINDOW => {
                self.usage = time.share_since(&last, now.duration_since(at));
                self.last = Some((now, time));
            }
            Some(_) => {}
            None => self.last = Some((now, time)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn whoever_asks_soon_again_gets_the_same_sample() {
        let monitor = SystemMonitor::new(std::env::temp_dir());
        let first = monitor.recent(1);
        let set = |at: Instant| {
            let mut recent = monitor.recent.lock().expect("no panic");
            recent.as_mut().expect("a sample").at = at;
        };
        // However slow this machine is.
        let later = Instant::now() + 1000 * MAX_AGE;
        set(later);
        assert!(Arc::ptr_eq(&first, &monitor.recent(1)));
        let second = monitor.recent(2);
        assert!(!Arc::ptr_eq(&first, &second), "something has happened");
        set(Instant::now()
            .checked_sub(2 * MAX_AGE)
            .expect("an earlier time"));
        assert!(!Arc::ptr_eq(&second, &monitor.recent(2)));
    }

    #[bounded::test]
    fn a_sample_of_this_machine_makes_sense() {
        let info = SystemMonitor::new(std::env::temp_dir()).sample();
        assert!(info.cpu_cores > 0.0);
        assert!(info.memory_total_bytes > 0);
        assert!(info.memory_available_bytes > 0);
        assert!(info.memory_available_bytes <= info.memory_total_bytes);
        assert!(info.disk_total_bytes >= info.disk_available_bytes);
        assert!(info.disk_total_bytes > 0);
        assert!(info.memory_server_bytes > 0);
        assert!(info.memory_server_bytes < info.memory_total_bytes);
    }

    #[bounded::test]
    fn usage_is_known_from_the_second_reading_on() {
        let start = Instant::now();
        let time = |millis| CpuTime::Group {
            used: Duration::from_millis(millis),
            cores: 2.0,
        };
        let mut meter = CpuMeter::default();
        meter.advance(start, time(100));
        assert_eq!(meter.usage, None);
        meter.advance(start + Duration::from_millis(10), time(120));
        assert_eq!(meter.usage, None, "too soon");
        meter.advance(start + Duration::from_secs(1), time(1100));
        assert_eq!(meter.usage, Some(0.5));
        meter.advance(start + Duration::from_millis(1100), time(1300));
        assert_eq!(meter.usage, Some(0.5), "too soon");
    }
}
