//! How full the KV caches of engines are that keep them in blocks.

use std::sync::Arc;

use opentelemetry::metrics::Meter;

use super::{ModelSample, Samples, of_model};

pub(super) fn observe(meter: &Meter, samples: Arc<Samples>) {
    let gauge = |name, description, part: fn((u64, u64)) -> u64| {
        let samples = samples.clone();
        let reported = move |sample: &ModelSample| sample.kv_blocks.map(part);
        meter
            .u64_observable_gauge(name)
            .with_unit("{block}")
            .with_description(description)
            .with_callback(move |gauge| {
                for sample in samples.now().iter() {
                    if let Some(blocks) = reported(sample) {
                        gauge.observe(blocks, &[of_model(&sample.model)]);
                    }
                }
            })
            .build()
    };
    gauge(
        "hangar.model.kv_blocks.used",
        "Blocks of the KV cache that sequences have",
        |(used, _)| used,
    );
    gauge(
        "hangar.model.kv_blocks.total",
        "Blocks of the KV cache",
        |(_, total)| total,
    );
}
