//! What workers report of the engine that is built into them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwapOption;
use hangar_worker_protocol::processor::Level;

use crate::{model::DeviceName, worker::ReadyMessage};

/// The engine, as the last worker reported it.
#[derive(Debug, Default)]
pub(super) struct BuiltInEngine {
    version: ArcSwapOption<String>,
    kernels: ArcSwapOption<String>,
    /// Slow kernels were reported.
    warned: AtomicBool,
}

impl BuiltInEngine {
    /// Records what a worker for that device reports, and warns, once, when it has slow kernels for what it hosts.
    pub(super) fn record(&self, ready: &ReadyMessage, device: &DeviceName) {
        self.version
            .store(Some(Arc::new(ready.engine_version.clone())));
        if *device != DeviceName::Cpu {
            return;
        }
        let kernels = ready.kernels.as_str();
        let is_changed = self
            .kernels
            .swap(Some(Arc::new(kernels.to_owned())))
            .is_none_or(|before| *before != kernels);
        let processor = Level::of_this_processor();
        if is_changed {
            tracing::info!(kernels, %processor, "engine.kernels");
        }
        let quantized = ready
            .outcome
            .as_ref()
            .is_ok_and(|inspection| !inspection.metadata.quantization.is_empty());
        if quantized && is_slow(kernels) && !self.warned.swap(true, Ordering::Relaxed) {
            let advice = match processor.suits_quantized() {
                true => {
                    "quantized models are many times slower than on this processor they could be: build Hangar on this \
                     machine, or put hangar-worker-x86-64-v3 beside it"
                }
                false => "this processor has no AVX2: models of F32 or F16 suit it better",
            };
            tracing::warn!(kernels, %processor, advice, "slow kernels for quantized models");
        }
    }

    pub(super) fn version(&self) -> Option<Arc<String>> {
        self.version.load_full()
    }

    pub(super) fn kernels(&self) -> Option<Arc<String>> {
        self.kernels.load_full()
    }
}

/// Whether a worker with kernels of that name computes quantized types by scalar code.
fn is_slow(kernels: &str) -> bool {
    let level = Level::of_this_processor()
        .max(Level::V4)
        .and_below()
        .find(|level| level.name() == kernels);
    level.is_some_and(|level| !level.suits_quantized())
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::{model::ModelMetadata, worker::Inspection};

    fn ready(kernels: &str, quantization: &str) -> ReadyMessage {
        ReadyMessage {
            engine_version: "1".to_owned(),
            kernels: kernels.to_owned(),
            outcome: Ok(Inspection {
                metadata: ModelMetadata {
                    quantization: quantization.to_owned(),
                    ..ModelMetadata::default()
                },
                ..Inspection::default()
            }),
        }
    }

    #[bounded::test]
    fn quantized_models_on_slow_kernels_are_warned_of() {
        let engine = BuiltInEngine::default();
        for quick in [
            ready("x86-64", ""),
            ready("x86-64-v3", "Q8_0"),
            ready("scripted", "Q8_0"),
        ] {
            engine.record(&quick, &DeviceName::Cpu);
            assert!(!engine.warned.load(Ordering::Relaxed), "{quick:?}");
        }
        engine.record(&ready("x86-64-v2", "Q8_0"), &DeviceName::Cpu);
        assert!(engine.warned.load(Ordering::Relaxed));
    }

    #[bounded::test]
    fn workers_for_gpus_tell_nothing_of_kernels_for_cpus() {
        let engine = BuiltInEngine::default();
        engine.record(&ready("x86-64-v3", ""), &DeviceName::Cpu);
        engine.record(&ready("x86-64", "Q8_0"), &DeviceName::Ordinal(0));
        assert_eq!(
            engine.kernels().as_deref().map(String::as_str),
            Some("x86-64-v3")
        );
        assert!(!engine.warned.load(Ordering::Relaxed));
    }
}
