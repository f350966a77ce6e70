//! The NVIDIA driver, played by files, for servers on machines that have none.
//!
//! The server loads its library `libnvidia-ml.so.1` through the loader's path and calls it as it calls
//! NVIDIA's; what the library answers, a test writes down. Scripted workers that play CUDA workers take
//! memory of the one device that they are shown, and lose it with their process.

mod compiler;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::{Context, Result};
pub use compiler::{library, program};

/// A GPU driver and its devices.
#[derive(Debug)]
pub struct GpuDriver {
    directory: tempfile::TempDir,
}

/// A device, as the driver knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its UUID.
    pub uuid: String,
    /// Product name.
    pub name: String,
    /// Memory in bytes.
    pub bytes: u64,
    /// Memory that nobody has who is listed, in bytes.
    pub lost: u64,
    /// How busy it is, in percent.
    pub busy: u32,
}

/// What nvmlInit gives when the driver's kernel module is not loaded.
pub const DRIVER_NOT_LOADED: i32 = 9;

/// What it gives when something is wrong that it cannot name.
pub const UNKNOWN_ERROR: i32 = 999;

const LIBRARY: &str = "libnvidia-ml.so.1";

impl GpuDriver {
    /// A GPU driver with these devices.
    ///
    /// # Errors
    ///
    /// When its files cannot be written, or there is no C compiler.
    pub fn new(gpus: &[Gpu]) -> Result<Self> {
        static BINARY: OnceLock<Result<Vec<u8>, String>> = OnceLock::new();
        let binary = BINARY.get_or_init(|| {
            let built = compiler::library(include_str!("nvml_stub/nvml.c"), LIBRARY);
            built.map_err(|error| format!("{error:#}"))
        });
        let binary = binary
            .as_ref()
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        let directory = tempfile::Builder::new()
            .prefix("hangar-driver-")
            .tempdir()?;
        fs::write(directory.path().join(LIBRARY), binary)?;
        let driver = Self { directory };
        for (ordinal, gpu) in gpus.iter().enumerate() {
            fs::create_dir_all(driver.gpu(ordinal).join("held"))?;
            driver.set(ordinal, gpu)?;
        }
        fs::create_dir_all(driver.path().join("gpus"))?;
        Ok(driver)
    }

    /// What the loader's path has to name.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The device is like this from now on.
    ///
    /// # Errors
    ///
    /// When that cannot be written.
    pub fn set(&self, ordinal: usize, gpu: &Gpu) -> Result<()> {
        let Gpu {
            uuid,
            name,
            bytes,
            lost,
            busy,
        } = gpu;
        let text = format!("{uuid}\n{name}\n{bytes}\n{lost}\n{busy}\n");
        write_whole(&self.gpu(ordinal).join("info"), &text)
    }

    /// This test's process holds so much of the device.
    ///
    /// # Errors
    ///
    /// When that cannot be written.
    pub fn take(&self, ordinal: usize, bytes: u64) -> Result<()> {
        hold(&self.gpu(ordinal), std::process::id(), bytes)
    }

    /// The process `pid` holds so much of the device.
    ///
    /// # Errors
    ///
    /// When that cannot be written.
    pub fn grow(&self, ordinal: usize, pid: u32, bytes: u64) -> Result<()> {
        hold(&self.gpu(ordinal), pid, bytes)
    }

    /// The driver does not list the process `pid` any more.
    ///
    /// # Errors
    ///
    /// When it did not.
    pub fn forget(&self, ordinal: usize, pid: u32) -> Result<()> {
        let path = self.gpu(ordinal).join("held").join(pid.to_string());
        Ok(fs::remove_file(path)?)
    }

    /// The library cannot be used, for the reason of this code.
    ///
    /// # Errors
    ///
    /// When that cannot be written.
    pub fn refuse(&self, code: i32) -> Result<()> {
        write_whole(&self.path().join("init"), &code.to_string())
    }

    /// Whether no call returns.
    ///
    /// # Errors
    ///
    /// When that cannot be written.
    pub fn hang(&self, hangs: bool) -> Result<()> {
        self.mark("hang", hangs)
    }

    /// Whether processes are not listed.
    ///
    /// # Errors
    ///
    /// When that cannot be written.
    pub fn keep_quiet(&self, quiet: bool) -> Result<()> {
        self.mark("quiet", quiet)
    }

    fn mark(&self, name: &str, set: bool) -> Result<()> {
        let path = self.path().join(name);
        if set {
            fs::write(path, "")?;
        } else {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    fn gpu(&self, ordinal: usize) -> PathBuf {
        self.path().join("gpus").join(ordinal.to_string())
    }
}

impl Drop for GpuDriver {
    fn drop(&mut self) {
        // A server that hangs in the driver goes on and ends.
        let _ = fs::remove_file(self.path().join("hang"));
    }
}

impl Gpu {
    /// An idle device of so many GiB.
    pub fn of_gib(ordinal: u32, gib: u64) -> Self {
        Self {
            uuid: format!("GPU-{ordinal:08x}-1111-2222-3333-444444444444"),
            name: format!("NVIDIA Test {gib} GiB"),
            bytes: gib << 30,
            lost: 0,
            busy: 0,
        }
    }

    /// The same device, of which so much is lost.
    #[must_use]
    pub fn without(&self, lost: u64) -> Self {
        Self {
            lost,
            ..self.clone()
        }
    }
}

/// Takes so much of the device that this worker is shown. Comes back with its process's end.
///
/// # Errors
///
/// When it is shown none, or one that the driver does not have.
pub(crate) fn take_as_worker(bytes: u64) -> Result<()> {
    let shown = std::env::var("CUDA_VISIBLE_DEVICES").context("no device is shown")?;
    let path = std::env::var("LD_LIBRARY_PATH").context("there is no driver")?;
    for gpu in fs::read_dir(Path::new(&path).join("gpus"))? {
        let gpu = gpu?.path();
        let info = fs::read_to_string(gpu.join("info"))?;
        if info.lines().next() == Some(&shown) {
            return hold(&gpu, std::process::id(), bytes);
        }
    }
    anyhow::bail!("there is no device {shown}")
}

fn hold(gpu: &Path, pid: u32, bytes: u64) -> Result<()> {
    let path = gpu.join("held").join(pid.to_string());
    write_whole(&path, &bytes.to_string())
}

/// Writes a file that a reader sees whole or not at all.
fn write_whole(path: &Path, text: &str) -> Result<()> {
    let draft = path.with_extension("draft");
    fs::write(&draft, text)?;
    Ok(fs::rename(draft, path)?)
}
