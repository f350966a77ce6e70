//! Accelerators, as a thread of its own reads them.
//!
//! Invariant: nobody waits for a driver, which can hang. What is told is the last reading that came back,
//! with the time at which it was taken; a driver that stopped answering shows by that time.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

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
    /// Share of the time that it was busy, from 0 to 1. `None` where the driver does not tell.
    pub utilization: Option<f64>,
    /// Version of the driver.
    pub driver_version: String,
    /// Version of CUDA that the driver supports, for example "12.4".
    pub cuda_version: String,
}

/// What a driver said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceReading {
    /// When. `None` when it has said nothing yet, or there is none.
    pub sampled: Option<SystemTime>,
    /// Its devices, by ordinal.
    pub devices: Vec<Device>,
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
pub enum OpenError {
    /// This machine has none.
    #[error("{0}")]
    Absent(String),
    /// There is one, and it does not work.
    #[error("{0}")]
    Broken(String),
}

/// Reads devices. The thread ends with it, as soon as the driver lets it.
#[derive(Debug)]
pub struct DeviceMonitor {
    latest: Arc<ArcSwap<DeviceReading>>,
    _open: SyncSender<()>,
}

/// Time between two readings.
const INTERVAL: Duration = Duration::from_secs(5);

// === impl DeviceMonitor ===

impl DeviceMonitor {
    /// Opens a source and reads it every five seconds, in a thread of its own. Returns at once.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start<S: DeviceSource>(
        open: impl FnOnce() -> Result<S, OpenError> + Send + 'static,
    ) -> io::Result<Self> {
        Self::start_every(INTERVAL, open)
    }

    fn start_every<S: DeviceSource>(
        interval: Duration,
        open: impl FnOnce() -> Result<S, OpenError> + Send + 'static,
    ) -> io::Result<Self> {
        let latest = Arc::new(ArcSwap::default());
        let (_open, closed) = mpsc::sync_channel(1);
        let published = latest.clone();
        // Not joined: the driver may never return to it.
        thread::Builder::new()
            .name("hangar-devices".to_owned())
            .spawn(move || match open() {
                Ok(source) => watch(source, interval, &published, &closed),
                Err(OpenError::Absent(why)) => tracing::debug!(why, "there are no devices"),
                Err(OpenError::Broken(why)) => tracing::warn!(why, "devices cannot be read"),
            })?;
        Ok(Self { latest, _open })
    }

    /// The last reading. Never waits.
    pub fn latest(&self) -> Arc<DeviceReading> {
        self.latest.load_full()
    }
}

fn watch(
    mut source: impl DeviceSource,
    interval: Duration,
    published: &ArcSwap<DeviceReading>,
    closed: &Receiver<()>,
) {
    let mut works = true;
    loop {
        match source.read() {
            Ok(devices) => {
                works = true;
                published.store(Arc::new(DeviceReading {
                    sampled: Some(SystemTime::now()),
                    devices,
                }));
            }
            Err(why) if works => {
                works = false;
                tracing::warn!(why, "devices cannot be read; the last reading stands");
            }
            Err(_) => {}
        }
        if closed.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
