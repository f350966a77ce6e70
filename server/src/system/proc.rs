//! Figures of /proc.

use std::{fs, time::Duration};

/// Memory of the machine or of a control group, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MachineMemory {
    /// All there is, or may be used.
    pub(super) total: u64,
    /// What can still be taken.
    pub(super) available: u64,
}

/// Processor time used so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum CpuTime {
    /// By the whole machine, in ticks of all its cores together.
    Machine {
        /// Not idle.
        busy: u64,
        /// Idle or not.
        all: u64,
    },
    /// By a control group that may use so many cores.
    Group {
        /// Used.
        used: Duration,
        /// Cores.
        cores: f64,
    },
}

/// RssAnon + RssShmem + VmSwap of a process in bytes; `None` when it is gone or a zombie.
///
/// Cached file pages are left out: the system takes them back by itself.
pub fn process_memory(pid: u32) -> Option<u64> {
    parse_process_memory(&read(&format!("/proc/{pid}/status"))?)
}

/// A file of /proc, if it can be read.
pub(super) fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn parse_process_memory(status: &str) -> Option<u64> {
    let anonymous = kibibytes(status, "RssAnon:")?;
    let shared = kibibytes(status, "RssShmem:").unwrap_or(0);
    let swapped = kibibytes(status, "VmSwap:").unwrap_or(0);
    Some(anonymous + shared + swapped)
}

impl MachineMemory {
    /// Parses /proc/meminfo.
    pub(super) fn parse(meminfo: &str) -> Option<Self> {
        Some(Self {
            total: kibibytes(meminfo, "MemTotal:")?,
            available: kibibytes(meminfo, "MemAvailable:")?,
        })
    }
}

impl CpuTime {
    /// Parses the first line of /proc/stat (proc_stat(5)). Guest time is part of user time already.
    pub(super) fn of_machine(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line
            .split_ascii_whitespace()
            .take(8)
            .map_while(|ticks| ticks.parse().ok())
            .collect();
        let (idle, waiting) = (*ticks.get(3)?, ticks.get(4).copied().unwrap_or(0));
        let all = ticks.iter().sum();
        Some(Self::Machine {
            busy: all - idle - waiting,
            all,
        })
    }

    /// Share of the cores used since an earlier reading, `elapsed` ago. `None` when the two do not
    /// compare.
    pub(super) fn share_since(&self, earlier: &Self, elapsed: Duration) -> Option<f64> {
        let share = match (*self, *earlier) {
            (
                Self::Machine { busy, all },
                Self::Machine {
                    busy: busy_then,
                    all: all_then,
                },
            ) => {
                let all = all.checked_sub(all_then).filter(|ticks| *ticks > 0)?;
                // The kernel's counts of waiting for disks may go back.
                busy.saturating_sub(busy_then) as f64 / all as f64
            }
            (
                Self::Group { used, cores },
                Self::Group {
                    used: used_then, ..
                },
            ) => {
                let used = used.checked_sub(used_then)?;
                used.as_secs_f64() / (elapsed.as_secs_f64() * cores)
            }
            _ => return None,
        };
        share.is_finite().then_some(share.clamp(0.0, 1.0))
    }
}

/// Value of a line such as `MemTotal:   16384 kB`, in bytes.
fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let number = line.trim().strip_suffix("kB")?.trim_end();
    number.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn memory_of_a_machine_is_read_where_both_numbers_are_given() {
        let text = "MemTotal:       24607636 kB\nMemFree:         1203340 kB\nMemAvailable:   22110312 kB\n";
        let expected = MachineMemory {
            total: 24_607_636 << 10,
            available: 22_110_312 << 10,
        };
        assert_eq!(MachineMemory::parse(text), Some(expected));
        assert_eq!(MachineMemory::parse("MemTotal: 1 kB"), None);
    }

    #[bounded::test]
    fn memory_of_a_process_leaves_out_file_pages() {
        let text = "Name:\thangar\nVmRSS:\t   13000 kB\nRssAnon:\t    4096 kB\nRssFile:\t    8900 kB\n\
                    RssShmem:\t       4 kB\nVmSwap:\t       2 kB\n";
        assert_eq!(parse_process_memory(text), Some((4096 + 4 + 2) << 10));
    }

    #[bounded::test]
    fn a_zombie_has_no_memory() {
        assert_eq!(
            parse_process_memory("Name:\thangar\nState:\tZ (zombie)\n"),
            None
        );
        assert_eq!(process_memory(u32::MAX), None);
    }

    #[bounded::test]
    fn share_of_a_machine_is_its_busy_time_over_all_time() {
        let then = CpuTime::of_machine("cpu  100 0 100 800 0 0 0 0 50 0\ncpu0 1 1 1 1\n").unwrap();
        assert_eq!(
            then,
            CpuTime::Machine {
                busy: 200,
                all: 1000
            }
        );
        let now = CpuTime::of_machine("cpu  200 10 140 1150 100 20 20 60 90 0\n").unwrap();
        assert_eq!(
            now,
            CpuTime::Machine {
                busy: 450,
                all: 1700
            }
        );
        let share = now.share_since(&then, Duration::from_secs(1)).unwrap();
        assert!((share - 250.0 / 700.0).abs() < 1e-9);
        assert_eq!(now.share_since(&now, Duration::from_secs(1)), None);
        assert_eq!(CpuTime::of_machine("cpu0 1 2 3 4"), None);
    }

    #[bounded::test]
    fn share_of_a_group_is_never_more_than_all_of_it() {
        let group = |millis| CpuTime::Group {
            used: Duration::from_millis(millis),
            cores: 1.5,
        };
        let elapsed = Duration::from_secs(1);
        assert_eq!(group(850).share_since(&group(100), elapsed), Some(0.5));
        assert_eq!(group(9000).share_since(&group(100), elapsed), Some(1.0));
        assert_eq!(group(0).share_since(&group(100), elapsed), None);
    }
}
