//! Size of a model's KV cache.

use serde::{Deserialize, Serialize};

/// Size of the KV cache of a text model on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvCache {
    /// In bytes.
    Bytes(u64),
    /// As a share of the device's whole memory, in (0, 1].
    MemoryShare(f32),
}
