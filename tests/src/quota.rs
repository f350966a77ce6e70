//! A part of a processor, as containers have it: by a control group.

use std::{
    fs,
    io::{Write, stderr},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::Result;

/// Holds a process to a part of a processor. Dropping it gives the process all its time back.
#[derive(Debug)]
pub struct CpuQuota {
    pid: u32,
    group: PathBuf,
}

/// Tells the groups of this process apart.
static GROUPS: AtomicU32 = AtomicU32::new(0);

/// Microseconds that a quota is for: the kernel gives no less than one millisecond of it.
const PERIOD: u32 = 100_000;

impl CpuQuota {
    /// Gives the process, with all that it starts from now on, `percent` of one processor; `None` where this user may
    /// make no such group, which is said.
    ///
    /// # Errors
    ///
    /// When there is no such process.
    pub fn start(pid: u32, percent: u32) -> Result<Option<Self>> {
        let number = GROUPS.fetch_add(1, Ordering::Relaxed);
        let name = format!("hangar-test-{}-{number}", std::process::id());
        let quota = PERIOD * percent / 100;
        let v1 = [
            ("cpu.cfs_period_us", PERIOD.to_string()),
            ("cpu.cfs_quota_us", quota.to_string()),
        ];
        let v2 = [("cpu.max", format!("{quota} {PERIOD}"))];
        let made = make(Path::new("/sys/fs/cgroup/cpu"), &name, &v1)
            .or_else(|| make(Path::new("/sys/fs/cgroup"), &name, &v2));
        let Some(group) = made else {
            // Past the test harness, which would swallow it.
            let why = "no control group of processors can be made here";
            writeln!(stderr(), "left out: {why}")?;
            return Ok(None);
        };
        let held = Self { pid, group };
        fs::write(held.group.join("cgroup.procs"), pid.to_string())?;
        Ok(Some(held))
    }
}

impl Drop for CpuQuota {
    fn drop(&mut self) {
        if let Some(parent) = self.group.parent() {
            // It may have ended.
            let _ = fs::write(parent.join("cgroup.procs"), self.pid.to_string());
        }
        let _ = fs::remove_dir(&self.group);
    }
}

/// A group of this name with these settings, in the hierarchy that is mounted at `root`.
fn make(root: &Path, name: &str, settings: &[(&str, String)]) -> Option<PathBuf> {
    let group = root.join(name);
    fs::create_dir(&group).ok()?;
    for (file, value) in settings {
        // A file that is not there means that this is no hierarchy of that kind.
        let set = group.join(file).exists() && fs::write(group.join(file), value).is_ok();
        if !set {
            let _ = fs::remove_dir(&group);
            return None;
        }
    }
    Some(group)
}
