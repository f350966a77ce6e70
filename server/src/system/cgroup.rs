//! Limits and use of the control groups that this process is in.
//!
//! A limit anywhere on the way from the own group to the root counts. Version 2 is read whole, version 1
//! for memory only. Inside a container the path that /proc gives may not exist under the mount point:
//! then the mount point itself is the own group.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::proc::MachineMemory;

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// Directories of the own group and those above it, own group first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Groups {
    /// Version 2; empty where the memory controller is not in it.
    unified: Vec<PathBuf>,
    /// The memory controller of version 1.
    memory: Vec<PathBuf>,
}

/// Paths of the own groups below their mount points.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Paths {
    unified: Option<String>,
    memory: Option<String>,
}

impl Groups {
    /// The groups of this process. Empty where there are none.
    pub(super) fn of_this_process() -> Self {
        let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let paths = Paths::parse(&text);
        let mount = Path::new(MOUNT);
        Self {
            unified: paths
                .unified
                .map(|path| upwards(mount, &path))
                .unwrap_or_default(),
            memory: paths
                .memory
                .map(|path| upwards(&mount.join("memory"), &path))
                .unwrap_or_default(),
        }
    }

    /// Cores that the tightest quota allows. `None` without one.
    pub(super) fn cpu_quota(&self) -> Option<f64> {
        let quotas = self.unified.iter().filter_map(|group| quota(group));
        quotas.min_by(f64::total_cmp)
    }

    /// Processor time used by the group that has the tightest quota. `None` without a quota.
    pub(super) fn cpu_time(&self) -> Option<Duration> {
        let limited = self
            .unified
            .iter()
            .filter_map(|group| Some((quota(group)?, group)));
        let (_, group) = limited.min_by(|a, b| a.0.total_cmp(&b.0))?;
        let used = value(&read(group, "cpu.stat")?, "usage_usec")?;
        Some(Duration::from_micros(used))
    }

    /// The tightest limit and the smallest remainder. `None` where nothing is limited.
    pub(super) fn memory(&self) -> Option<MachineMemory> {
        let unified = self.unified.iter().filter_map(|group| {
            let limit = parse_limit(&read(group, "memory.max")?)?;
            let used = read(group, "memory.current")?.trim().parse().ok()?;
            let inactive = value(&read(group, "memory.stat")?, "inactive_file").unwrap_or(0);
            Some(remainder(limit, used, inactive))
        });
        let version_1 = self.memory.iter().filter_map(|group| {
            let limit = parse_limit(&read(group, "memory.limit_in_bytes")?)?;
            let used = read(group, "memory.usage_in_bytes")?.trim().parse().ok()?;
            let inactive = value(&read(group, "memory.stat")?, "total_inactive_file").unwrap_or(0);
            Some(remainder(limit, used, inactive))
        });
        unified.chain(version_1).reduce(|a, b| MachineMemory {
            total: a.total.min(b.total),
            available: a.available.min(b.available),
        })
    }
}

impl Paths {
    /// Parses /proc/self/cgroup (cgroups(7)).
    fn parse(text: &str) -> Self {
        let mut paths = Self::default();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(id), Some(controllers), Some(path)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if id == "0" && controllers.is_empty() {
                paths.unified = Some(path.to_owned());
            } else if controllers.split(',').any(|name| name == "memory") {
                paths.memory = Some(path.to_owned());
            }
        }
        paths
    }
}

/// The group's directory and those above it up to the mount point.
fn upwards(mount: &Path, path: &str) -> Vec<PathBuf> {
    let own = mount.join(path.trim_start_matches('/'));
    let own = if own.is_dir() { own } else { mount.to_owned() };
    own.ancestors()
        .take_while(|directory| directory.starts_with(mount))
        .map(Path::to_owned)
        .collect()
}

/// Memory that may be used and that can still be taken: cached files not used lately are given back.
fn remainder(limit: u64, used: u64, inactive_file: u64) -> MachineMemory {
    let held = used.saturating_sub(inactive_file);
    MachineMemory {
        total: limit,
        available: limit.saturating_sub(held),
    }
}

fn quota(group: &Path) -> Option<f64> {
    parse_quota(&read(group, "cpu.max")?)
}

/// Parses cpu.max: `QUOTA PERIOD`, or `max PERIOD` for no limit.
fn parse_quota(text: &str) -> Option<f64> {
    let mut fields = text.split_ascii_whitespace();
    let quota: f64 = fields.next()?.parse().ok()?;
    let period: f64 = fields.next()?.parse().ok()?;
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

/// Parses a limit in bytes. `max`, and version 1's nearly 2^63, are no limit.
fn parse_limit(text: &str) -> Option<u64> {
    let limit = text.trim().parse::<u64>().ok()?;
    (limit < i64::MAX as u64 - (1 << 20)).then_some(limit)
}

/// Value of a line `KEY VALUE`.
fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}

fn read(group: &Path, file: &str) -> Option<String> {
    fs::read_to_string(group.join(file)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group below `parent` with these files.
    fn group(parent: &Path, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let path = parent.join(name);
        fs::create_dir_all(&path).unwrap();
        for (file, text) in files {
            fs::write(path.join(file), text).unwrap();
        }
        path
    }

    #[bounded::test]
    fn groups_of_both_versions_are_found() {
        let text = "9:name=systemd:/\n4:memory:/docker/b9e3\n3:cpuset:/\n0::/user.slice/a:b\n";
        let paths = Paths::parse(text);
        assert_eq!(paths.unified.as_deref(), Some("/user.slice/a:b"));
        assert_eq!(paths.memory.as_deref(), Some("/docker/b9e3"));
        assert_eq!(Paths::parse(""), Paths::default());
    }

    #[bounded::test]
    fn quotas_and_limits_are_read_where_there_are_any() {
        assert_eq!(parse_quota("150000 100000\n"), Some(1.5));
        assert_eq!(parse_quota("max 100000\n"), None);
        assert_eq!(parse_quota(""), None);
        assert_eq!(parse_limit("536870912\n"), Some(512 << 20));
        assert_eq!(parse_limit("max\n"), None);
        assert_eq!(parse_limit("9223372036854771712\n"), None);
    }

    #[bounded::test]
    fn the_tightest_group_on_the_way_up_counts() {
        let mount = tempfile::tempdir().unwrap();
        let stat = "anon 1000\nfile 500\ninactive_file 200\nactive_file 300\n";
        let outer = [
            ("memory.max", "1000"),
            ("memory.current", "900"),
            ("memory.stat", stat),
            ("cpu.max", "50000 100000"),
            ("cpu.stat", "usage_usec 2500000\nuser_usec 1\n"),
        ];
        group(mount.path(), "pod", &outer);
        let inner = [
            ("memory.max", "2000"),
            ("memory.current", "100"),
            ("memory.stat", stat),
            ("cpu.max", "100000 100000"),
            ("cpu.stat", "usage_usec 1000000\n"),
        ];
        group(mount.path(), "pod/container", &inner);
        let groups = Groups {
            unified: upwards(mount.path(), "/pod/container"),
            memory: Vec::new(),
        };
        assert_eq!(groups.unified.len(), 3);
        assert_eq!(groups.cpu_quota(), Some(0.5));
        assert_eq!(groups.cpu_time(), Some(Duration::from_millis(2500)));
        let expected = MachineMemory {
            total: 1000,
            available: 300,
        };
        assert_eq!(groups.memory(), Some(expected));
    }

    #[bounded::test]
    fn version_1_reports_memory_too() {
        let mount = tempfile::tempdir().unwrap();
        let files = [
            ("memory.limit_in_bytes", "4096\n"),
            ("memory.usage_in_bytes", "3000\n"),
            (
                "memory.stat",
                "cache 1\ninactive_file 7\ntotal_inactive_file 1000\n",
            ),
        ];
        group(mount.path(), "docker", &files);
        let groups = Groups {
            unified: Vec::new(),
            memory: upwards(mount.path(), "/docker"),
        };
        let expected = MachineMemory {
            total: 4096,
            available: 2096,
        };
        assert_eq!(groups.memory(), Some(expected));
        assert_eq!(groups.cpu_quota(), None);
        assert_eq!(groups.cpu_time(), None);
    }

    #[bounded::test]
    fn in_a_container_the_mount_point_is_the_own_group() {
        let mount = tempfile::tempdir().unwrap();
        assert_eq!(upwards(mount.path(), "/not/here"), [mount.path()]);
    }
}
