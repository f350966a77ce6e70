//! Sizes of KV caches as messages.

use hangar_client::v1::{self, kv_cache::Size};

use crate::model::KvCache;

/// The size as a message.
pub fn kv_cache(size: KvCache) -> v1::KvCache {
    let size = match size {
        KvCache::Bytes(bytes) => Size::Bytes(bytes),
        KvCache::MemoryShare(share) => Size::MemoryShare(share),
    };
    v1::KvCache { size: Some(size) }
}
