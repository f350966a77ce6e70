//! Accelerators, as a thread of its own reads them.
//!
//! Invariant: nobody waits for a driver, which can hang, longer than it meant to. What is reported is the
//! last reading that came back, with the time at which it was taken; a driver that stopped answering shows
//! by that time.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::supervisor::Supervisor;

/// An accelerator at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Stable id that the driver gives, for example "GPU-4b2e…".
    pub uuid: String,
    /// Position in the driver's list.
    pub ordinal: u32,
    /// Product name.
    pub name: String,
    /// Memory in bytes.
    pub memory_total_bytes: u64,
    /// Free memory in bytes.
    pub memory_free_bytes: u64,
    /// Share of the time that it was busy, from 0 to 1. `None` where the driver does not say.
    pub utilization: Option<f64>,
    /// Version of the driver.
    pub driver_version: String,
    /// Version of CUDA that the driver supports, for example "12.4".
    pub cuda_version: String,
    /// Processes that compute on it. `None` where the driver does not say.
    #[serde(default)]
    pub processes: Option<Vec<DeviceProcess>>,
}

/// A process that computes on an accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceProcess {
    /// Its id, where the driver sees it: not that of the container's name space.
    pub pid: u32,
    /// Memory that it has there, in bytes. `None` where the driver does not say.
    pub bytes: Option<u64>,
}

/// What a driver reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceReading {
    /// Whether there is a driver.
    pub driver: GpuDriver,
    /// When. `None` when it has reported nothing yet, or there is none.
    pub sampled: Option<SystemTime>,
    /// When the driver was asked last, among the times that it answered or failed.
    pub asked: Option<Instant>,
    /// Why it could not answer the last time, if it could not: then the devices are those of `sampled`.
    pub error: Option<String>,
    /// Its devices, by ordinal.
    pub devices: Vec<Device>,
}

/// Whether there is a driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GpuDriver {
    /// Nobody knows yet: it has not answered so far.
    #[default]
    Unresponsive,
    /// It has answered.
    Works,
    /// There is none, in words.
    Absent(String),
    /// There is one that does not work, in words.
    Broken(String),
}

/// Where readings come from: a driver, or a record of one.
pub trait DeviceSource {
    /// All devices that can be read now, by ordinal. May block for as long as it likes.
    ///
    /// # Errors
    ///
    /// In words, when nothing can be read.
    fn read(&mut self) -> Result<Vec<Device>, String>;
}

/// A source that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum GpuDriverError {
    /// This machine has none.
    #[error("{0}")]
    Absent(String),
    /// There is one, and it does not work.
    #[error("{0}")]
    Broken(String),
}

/// A GPU driver that did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the driver does not answer")]
pub struct GpuDriverUnresponsive;

/// Reads devices. The thread ends with it, as soon as the driver lets it.
#[derive(Debug)]
pub struct DeviceMonitor {
    latest: watch::Receiver<Arc<DeviceReading>>,
    /// Each message asks for a reading.
    requests: SyncSender<()>,
}

/// Between two readings that nobody asked for.
const INTERVAL: Duration = Duration::from_secs(5);

impl DeviceMonitor {
    /// Opens a source and reads it when asked to, and every five seconds, in a thread of its own, which `supervisor`
    /// watches for panics: that it hangs in its driver is no news. Returns at once.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start<S: DeviceSource>(
        open: impl FnOnce() -> Result<S, GpuDriverError> + Send + 'static,
        supervisor: &Supervisor,
    ) -> io::Result<Self> {
        Self::start_every(INTERVAL, open, supervisor)
    }

    fn start_every<S: DeviceSource>(
        interval: Duration,
        open: impl FnOnce() -> Result<S, GpuDriverError> + Send + 'static,
        supervisor: &Supervisor,
    ) -> io::Result<Self> {
        let (published, latest) = watch::channel(Arc::default());
        let (requests, asked) = mpsc::sync_channel(1);
        // Not joined: the driver may never return to it.
        supervisor.thread("hangar-devices", move |_| match open() {
            Ok(source) => poll_loop(source, interval, &published, &asked),
            Err(GpuDriverError::Absent(why)) => {
                tracing::debug!(why, "there are no devices");
                close(&published, GpuDriver::Absent(why));
            }
            Err(GpuDriverError::Broken(why)) => {
                tracing::warn!(why, "devices cannot be read");
                close(&published, GpuDriver::Broken(why));
            }
        })?;
        Ok(Self { latest, requests })
    }

    /// The last reading. Never waits.
    pub fn latest(&self) -> Arc<DeviceReading> {
        self.latest.borrow().clone()
    }

    /// Sees to it that there is a reading that is no older than `age` soon. Never waits.
    pub fn refresh(&self, age: Duration) {
        let asked = self.latest.borrow().asked;
        if asked.is_none_or(|asked| asked.elapsed() >= age) {
            // Full means that one has been asked for and was not begun.
            let _ = self.requests.try_send(());
        }
    }

    /// A reading that was begun after this call, or the last word on a driver that is not there. Waits for
    /// at most the time `max_wait`. Safe to cancel.
    ///
    /// # Errors
    ///
    /// When none came in time.
    pub async fn fresh(
        &self,
        max_wait: Duration,
    ) -> Result<Arc<DeviceReading>, GpuDriverUnresponsive> {
        let now = Instant::now();
        let mut latest = self.latest.clone();
        let _ = self.requests.try_send(());
        let fresh = latest.wait_for(|reading| reading.is_final() || reading.asked >= Some(now));
        let reading = tokio::time::timeout(max_wait, fresh).await;
        match reading {
            Ok(Ok(reading)) => Ok(reading.clone()),
            // A thread that is gone says nothing more.
            Ok(Err(_)) | Err(_) => Err(GpuDriverUnresponsive),
        }
    }
}

impl DeviceReading {
    /// Whether nothing will follow.
    fn is_final(&self) -> bool {
        matches!(self.driver, GpuDriver::Absent(_) | GpuDriver::Broken(_))
    }

    /// The device of this UUID.
    pub fn device(&self, uuid: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.uuid == uuid)
    }
}

impl Device {
    /// What the process `pid` has there, in bytes, where the driver says so.
    pub fn bytes_of(&self, pid: u32) -> Option<u64> {
        let mut processes = self.processes.iter().flatten();
        processes.find(|process| process.pid == pid)?.bytes
    }
}

fn close(published: &watch::Sender<Arc<DeviceReading>>, driver: GpuDriver) {
    published.send_replace(Arc::new(DeviceReading {
        driver,
        ..DeviceReading::default()
    }));
}

/// Logs a device that was found.
fn announce(device: &Device) {
    tracing::info!(
        ordinal = device.ordinal,
        uuid = device.uuid,
        name = device.name,
        memory_total_bytes = device.memory_total_bytes,
        memory_free_bytes = device.memory_free_bytes,
        driver = device.driver_version,
        "device.found"
    );
}

fn poll_loop(
    mut source: impl DeviceSource,
    interval: Duration,
    published: &watch::Sender<Arc<DeviceReading>>,
    requests: &Receiver<()>,
) {
    let mut works = true;
    loop {
        let asked = Some(Instant::now());
        match source.read() {
            Ok(devices) => {
                works = true;
                if published.borrow().sampled.is_none() {
                    devices.iter().for_each(announce);
                }
                published.send_replace(Arc::new(DeviceReading {
                    driver: GpuDriver::Works,
                    sampled: Some(SystemTime::now()),
                    asked,
                    error: None,
                    devices,
                }));
            }
            Err(why) => {
                if works {
                    tracing::warn!(why, "devices cannot be read; the last reading stands");
                }
                works = false;
                let last = DeviceReading::clone(&published.borrow());
                published.send_replace(Arc::new(DeviceReading {
                    driver: GpuDriver::Works,
                    asked,
                    error: Some(why),
                    ..last
                }));
            }
        }
        if requests.recv_timeout(interval) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
