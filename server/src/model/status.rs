//! Where a model stands and what is known about it.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use strum::VariantArray;

use super::{
    ConversationSupport, DataType, DeviceName, Failure, Format, Generation, LoadId, ModelId,
    ModelKind, Progress, optional_text, state::StateKind,
};

/// Where a model stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The model.
    pub model_id: ModelId,
    /// Its state, without what belongs to it there.
    pub state: StateKind,
    /// Rises by one with each transition.
    pub generation: Generation,
    /// The load that led here.
    pub load_id: Option<LoadId>,
    /// The load that begins as soon as the unload that is under way has ended.
    pub next_load: Option<LoadId>,
    /// How far the load is, while one is under way.
    pub progress: Option<Progress>,
    /// Why, where something went wrong.
    pub failure: Option<Failure>,
    /// What the worker holds.
    pub memory: Option<ModelMemory>,
    /// How full the engine's KV cache is, where it is kept in blocks.
    pub kv_blocks: Option<KvBlocks>,
    /// The worker's process id.
    pub worker_pid: Option<u32>,
    /// Which attempt of the load this is, from 1; 0 before the first.
    pub attempt: u32,
    /// When the next attempt is made.
    pub next_retry: Option<SystemTime>,
    /// Restarts after a fault since the server started.
    pub restarts: u64,
    /// Requests that run.
    pub in_flight: u32,
    /// Requests that wait.
    pub queued: u32,
    /// When the model came into this state.
    pub since: SystemTime,
    /// Why the model is not loaded although it was asked for.
    pub suspended: Option<Suspension>,
}

/// Why a model is not loaded although it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// The cause.
    pub cause: SuspendCause,
    /// The story, in words.
    pub message: String,
}

/// Causes of a suspension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "snake_case")]
pub enum SuspendCause {
    /// Room was needed.
    Evicted,
    /// Nobody used it for its idle time-out.
    Idle,
}

/// What a worker holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelMemory {
    /// Anonymous and shared memory and swap of its process.
    pub host_bytes: u64,
    /// Device memory.
    pub device_bytes: u64,
}

/// Blocks of a KV cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvBlocks {
    /// Those that sequences have.
    pub used: u32,
    /// All.
    pub total: u32,
}

/// What is known about a model, as far as it has been observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(
    missing_docs,
    reason = "the fields are those of hangar.v1.ModelMetadata"
)]
pub struct ModelMetadata {
    pub architecture: String,
    pub model_name: String,
    pub base_model: String,
    pub tokenizer_id: String,
    pub kind: Option<ModelKind>,
    pub input_modalities: Vec<String>,
    pub output_modalities: Vec<String>,
    pub parameter_count: u64,
    pub dtype: Option<DataType>,
    pub quantization: String,
    pub context_length: u32,
    pub trained_context_length: u32,
    pub vocabulary_size: u32,
    pub format: Option<Format>,
    pub size_bytes: u64,
    #[serde(with = "optional_text")]
    pub device: Option<DeviceName>,
    pub is_lora: bool,
    pub lora_rank: u32,
    pub adapters: Vec<String>,
    pub resolved_revision: String,
    pub prepared: bool,
    pub embedding_size: u32,
    pub conversation: Option<ConversationSupport>,
    pub load_duration: Option<Duration>,
    pub loaded: Option<SystemTime>,
}

impl Status {
    /// The status of a model that was never loaded.
    pub fn unloaded(model_id: ModelId) -> Self {
        Self {
            model_id,
            state: StateKind::Unloaded,
            generation: Generation::default(),
            load_id: None,
            next_load: None,
            progress: None,
            failure: None,
            memory: None,
            kv_blocks: None,
            worker_pid: None,
            attempt: 0,
            next_retry: None,
            restarts: 0,
            in_flight: 0,
            queued: 0,
            since: SystemTime::now(),
            suspended: None,
        }
    }
}
