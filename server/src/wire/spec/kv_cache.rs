//! Sizes of KV caches as messages, both ways.

use hangar_client::v1::{self, kv_cache::Size};

use crate::{model::KvCache, wire::violations::Violations};

/// Smallest size in bytes: the engine counts in MiB.
const MIN_BYTES: u64 = 1 << 20;

/// The size that `message`, the field `field` of a request, gives. What is wrong with it is added to
/// `violations`.
pub(super) fn read(
    message: Option<&v1::KvCache>,
    field: &str,
    violations: &mut Violations,
) -> Option<KvCache> {
    match message?.size {
        None => {
            violations.add(field, "must give bytes or memory_share");
            None
        }
        Some(Size::Bytes(bytes)) => {
            let right = bytes >= MIN_BYTES;
            violations.check(
                right,
                &format!("{field}.bytes"),
                "must be at least 1048576 (1 MiB)",
            );
            Some(KvCache::Bytes(bytes))
        }
        Some(Size::MemoryShare(share)) => {
            // Not a number is in no range.
            let right = share > 0.0 && share <= 1.0;
            violations.check(
                right,
                &format!("{field}.memory_share"),
                "must be above 0 and at most 1",
            );
            Some(KvCache::MemoryShare(share))
        }
    }
}

pub(super) fn message(size: KvCache) -> v1::KvCache {
    let size = match size {
        KvCache::Bytes(bytes) => Size::Bytes(bytes),
        KvCache::MemoryShare(share) => Size::MemoryShare(share),
    };
    v1::KvCache { size: Some(size) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(size: Option<Size>) -> Vec<String> {
        let mut violations = Violations::default();
        read(
            Some(&v1::KvCache { size }),
            "spec.kv_cache",
            &mut violations,
        );
        violations
            .all()
            .into_iter()
            .map(|(field, _)| field)
            .collect()
    }

    #[bounded::test]
    fn sizes_have_their_ranges() {
        for size in [
            Size::Bytes(1 << 20),
            Size::Bytes(u64::MAX),
            Size::MemoryShare(f32::MIN_POSITIVE),
            Size::MemoryShare(1.0),
        ] {
            assert!(wrong(Some(size)).is_empty(), "{size:?}");
        }
        for bytes in [0, (1 << 20) - 1] {
            assert_eq!(wrong(Some(Size::Bytes(bytes))), ["spec.kv_cache.bytes"]);
        }
        for share in [0.0, -0.5, 1.001, f32::NAN, f32::INFINITY] {
            let fields = wrong(Some(Size::MemoryShare(share)));
            assert_eq!(fields, ["spec.kv_cache.memory_share"], "{share}");
        }
        assert_eq!(wrong(None), ["spec.kv_cache"]);
    }

    #[bounded::test]
    fn a_size_may_be_left_out() {
        let mut violations = Violations::default();
        assert_eq!(read(None, "spec.kv_cache", &mut violations), None);
        assert!(violations.all().is_empty());
    }
}
