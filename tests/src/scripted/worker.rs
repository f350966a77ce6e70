//! What the parts of a scripted worker share.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use hangar_client::v1::{ModelMetadata, Pace};
use hangar_worker_protocol::v1::WatchStatsResponse;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    script::{Script, StatsKind},
    work::EngineTime,
};

/// A worker: its script and what it has done so far.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) script: Script,
    pub(super) directory: PathBuf,
    pub(super) metadata: ModelMetadata,
    pub(super) steps: AtomicU64,
    pub(super) in_flight: AtomicU32,
    pub(super) prompts: Mutex<PromptCounts>,
    /// A request came.
    pub(super) begun: Notify,
    pub(super) engine_time: Arc<EngineTime>,
    /// What it has of its device, in bytes.
    pub(super) device_bytes: AtomicU64,
    /// Calls of the load that have broken their connection, before the engine was built and in the warm-up.
    pub(super) breaks: (AtomicU32, AtomicU32),
    /// What the load took, or an answer.
    pub(super) memory: Mutex<Vec<u8>>,
    /// Set when the worker is to end; ends all streams.
    pub(super) stopping: CancellationToken,
}

/// Lengths of prompts in tokens.
#[derive(Debug, Default)]
pub(super) struct PromptCounts {
    /// Of those that have no first token yet.
    pub(super) reading: Vec<u64>,
    /// Of the longest one that has one.
    longest_prefilled: u64,
}

/// So often a worker tells of what it dies of.
const REPORTS_BEFORE_DEATH: u32 = 3;

impl PromptCounts {
    /// A first token was made of a prompt of this length, or its caller has gone.
    pub(super) fn leave(&mut self, length: u64, is_read: bool) {
        let place = self.reading.iter().position(|other| *other == length);
        if let Some(place) = place {
            self.reading.swap_remove(place);
        }
        if is_read {
            self.longest_prefilled = self.longest_prefilled.max(length);
        }
    }
}

impl Worker {
    pub(super) fn new(script: Script, directory: PathBuf, metadata: ModelMetadata) -> Self {
        Self {
            script,
            directory,
            metadata,
            steps: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            prompts: Mutex::default(),
            begun: Notify::new(),
            engine_time: Arc::default(),
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
        let prompts = self.prompts();
        WatchStatsResponse {
            steps: self.steps.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            prefill_tokens: prompts.reading.iter().sum(),
            longest_prefill_tokens: prompts.reading.iter().copied().max().unwrap_or(0),
            longest_prefilled_tokens: prompts.longest_prefilled,
            engine_cpu_time: self.engine_time.read().try_into().ok(),
            pace: self.script.pace.map(|rate| Pace {
                prompt_tokens_per_second: Some(rate),
                ..Pace::default()
            }),
            device_bytes: match self.script.hide_device_use {
                true => 0,
                false => self.device_bytes.load(Ordering::Relaxed),
            },
            kv_blocks_used: self.script.kv_blocks.0,
            kv_blocks_total: self.script.kv_blocks.1,
        }
    }

    /// Dies if the script wants so, with as many requests as there are, of which it has told so often.
    pub(super) fn die_of_requests(&self, reports: &mut u32) {
        let fatal = self.script.generate.die_with_requests;
        if fatal == Some(self.in_flight.load(Ordering::Relaxed)) {
            if *reports == REPORTS_BEFORE_DEATH {
                self.script.die_with.strike();
            }
            *reports += 1;
        }
    }

    pub(super) fn prompts(&self) -> MutexGuard<'_, PromptCounts> {
        self.prompts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
