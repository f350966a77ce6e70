//! What a worker says of its engine.

use std::time::Duration;

use crate::model::{KvBlocks, Pace};

/// What an engine does, and what it has.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EngineStats {
    /// Steps that it has made: rises with each token, and each vector, of any request.
    pub steps: u64,
    /// Requests that are with it.
    pub in_flight: u32,
    /// Tokens of the prompts that are with it and have no first token yet.
    pub prefill_tokens: u64,
    /// Device memory that the worker holds, in bytes.
    pub device_bytes: u64,
    /// Blocks of its KV cache. None in all without paged attention.
    pub kv_blocks: KvBlocks,
    /// Length in tokens of the longest prompt that is being read.
    pub longest_prefill_tokens: u64,
    /// Length in tokens of the longest prompt that has been read.
    pub longest_prefilled_tokens: u64,
    /// How the model was seen to work; `None` where nothing has been seen.
    pub pace: Option<Pace>,
    /// Processor time that it has used.
    pub cpu_time: Duration,
}
