//! What the parts of a scripted worker share.

use std::{
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use hangar_client::v1::ModelMetadata;
use hangar_worker_protocol::v1::WatchStatsResponse;
use tokio_util::sync::CancellationToken;

use super::script::{Script, StatsKind};

/// A worker: its script and what it has done so far.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) script: Script,
    pub(super) directory: PathBuf,
    pub(super) metadata: ModelMetadata,
    pub(super) steps: AtomicU64,
    pub(super) in_flight: AtomicU32,
    /// What it has of its device, in bytes.
    pub(super) device_bytes: AtomicU64,
    /// Calls of the load that have broken their connection, before the engine was built and in the warm-up.
    pub(super) breaks: (AtomicU32, AtomicU32),
    /// What the load took.
    pub(super) memory: Mutex<Vec<u8>>,
    /// Set when the worker is to end; ends all streams.
    pub(super) stopping: CancellationToken,
}

impl Worker {
    pub(super) fn new(script: Script, directory: PathBuf, metadata: ModelMetadata) -> Self {
        Self {
            script,
            directory,
            metadata,
            steps: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            device_bytes: AtomicU64::new(0),
            breaks: (AtomicU32::new(0), AtomicU32::new(0)),
            memory: Mutex::new(Vec::new()),
            stopping: CancellationToken::new(),
        }
    }

    pub(super) fn stats(&self) -> WatchStatsResponse {
        if self.script.stats == StatsKind::Busy {
            self.steps.fetch_add(1, Ordering::Relaxed);
        }
        WatchStatsResponse {
            steps: self.steps.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            prefill_tokens: 0,
            device_bytes: match self.script.device_untold {
                true => 0,
                false => self.device_bytes.load(Ordering::Relaxed),
            },
            kv_blocks_used: self.script.kv_blocks.0,
            kv_blocks_total: self.script.kv_blocks.1,
            ..WatchStatsResponse::default()
        }
    }
}
