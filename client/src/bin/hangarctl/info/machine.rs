//! Devices and the cache, each in one line.

use hangar_client::v1::{CacheInfo, DeviceInfo};

use crate::table::{ago, bytes, percent};

pub(super) fn device(device: &DeviceInfo) -> String {
    let mut text = format!(
        "Device {}: {} ({}), {} free of {}, models hold {}",
        device.ordinal,
        device.name,
        device.uuid,
        bytes(device.memory_free_bytes),
        bytes(device.memory_total_bytes),
        bytes(device.memory_models_bytes),
    );
    if let Some(utilization) = device.utilization {
        text += &format!(", {} busy", percent(utilization));
    }
    text += &format!(", driver {}", device.driver_version);
    if !device.cuda_version.is_empty() {
        text += &format!(", CUDA {}", device.cuda_version);
    }
    match ago(device.sampled_at.as_ref()) {
        sampled if sampled.is_empty() => text,
        sampled => format!("{text}, read {sampled}"),
    }
}

pub(super) fn cache(cache: &CacheInfo) -> String {
    let text = format!(
        "Cache: {} in {} entries, {} hits, {} misses",
        bytes(cache.size_bytes),
        cache.entries,
        cache.hits,
        cache.misses
    );
    match cache.hit_rate {
        Some(rate) => format!("{text} ({} found)", percent(rate)),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn what_is_not_known_is_left_out() {
        let mut known = DeviceInfo {
            name: "G".to_owned(),
            uuid: "GPU-1".to_owned(),
            driver_version: "550".to_owned(),
            ..DeviceInfo::default()
        };
        let text = device(&known);
        assert_eq!(
            text,
            "Device 0: G (GPU-1), 0 B free of 0 B, models hold 0 B, driver 550"
        );
        known.utilization = Some(0.5);
        assert!(device(&known).contains("50 % busy"));
        let mut counted = CacheInfo::default();
        assert_eq!(cache(&counted), "Cache: 0 B in 0 entries, 0 hits, 0 misses");
        counted.hit_rate = Some(0.75);
        assert!(cache(&counted).ends_with("(75 % found)"));
    }
}
