//! How a model is to lie on its device: its KV cache, how many requests run at a time, and the memory that
//! it needs there.
//!
//! On a GPU that is the sum of
//! - the weights in the data type that they have there,
//! - the KV cache: what is taken for paged attention, else that of each request that runs,
//! - the tables of positions: six bytes for each of a head's numbers while they are made,
//! - working space: for up to 4,096 tokens of a prompt, or all of a text of which a vector is made, `4 × (hidden + intermediate)` numbers, the scores of
//!   1,024 of them to all of them in all heads twice in F32, the mask of all to all, and the scores of the
//!   vocabulary,
//! - what images need where the model takes them,
//! - a fixed 768 MiB for the driver's context, the engine's kernels and the workspaces of its libraries: an
//!   estimate.

use hangar_worker_protocol::v1::WorkerConfig;

use super::{
    kv_cache::{KvPlan, KvRequest},
    memory_need::MemoryNeed,
};
use crate::{device::TargetDevice, failure::Failure};

/// Requests at a time on a CPU: the engine mixes up the attention of sequences that decode together there.
const ON_A_CPU: u32 = 1;

/// Tokens of a prompt that are counted on. A longer one takes memory that nobody has counted.
const PROMPT: u64 = 4096;

/// Tokens of a prompt whose scores the engine computes at a time.
const CHUNK: u64 = 1024;

/// What a GPU needs without a model.
const CONTEXT: u64 = 768 << 20;

/// How a model is to lie on its device.
#[derive(Debug, Clone)]
pub(crate) struct DevicePlan {
    /// The device.
    pub(crate) device: TargetDevice,
    /// The cache to take for paged attention. `None`: it grows with each request.
    pub(crate) kv_cache: Option<KvPlan>,
    /// Requests that run at the same time.
    pub(crate) concurrency: u32,
    /// Memory of the device that is needed, in bytes; zero on a CPU.
    pub(crate) need: u64,
    /// What of it is certain: the weights and the cache.
    pub(crate) certain: u64,
}

impl DevicePlan {
    /// Plans for a model that needs what `need` says. `caches`: it makes text, and so has a KV cache.
    pub(super) fn plan(
        config: &WorkerConfig,
        device: TargetDevice,
        need: &MemoryNeed,
        caches: bool,
    ) -> Result<Self, Failure> {
        let TargetDevice::Gpu(gpu) = &device else {
            return Ok(Self {
                device,
                kv_cache: None,
                concurrency: ON_A_CPU,
                need: 0,
                certain: 0,
            });
        };
        // The engine pads texts of a batch for vectors, and cannot take images of several requests at a time.
        let alone = !caches || need.images > 0;
        let concurrency = match alone {
            true => 1,
            false => config.asked_concurrency.max(1),
        };
        let request = KvRequest {
            size: config.spec().kv_cache,
            shape: need.shape,
            bytes_per_element: need.bytes_per_element,
            context: need.context,
            context_is_requested: config.spec().context_length > 0,
            concurrency: concurrency.into(),
            memory: gpu.memory,
        };
        let kv_cache = if caches { request.plan()? } else { None };
        let cache = match &kv_cache {
            Some(plan) => plan.bytes(),
            None if caches => need.cache().saturating_mul(concurrency.into()),
            None => 0,
        };
        let certain = need
            .weights
            .saturating_add(kv_cache.map_or(0, |plan| plan.bytes()));
        Ok(Self {
            device,
            kv_cache,
            concurrency,
            need: on_a_gpu(need, cache),
            certain,
        })
    }

    /// The longest sequence, where the model allows `context`.
    pub(super) fn context(&self, context: Option<u32>) -> Option<u32> {
        self.kv_cache.and_then(|plan| plan.context).or(context)
    }
}

fn on_a_gpu(need: &MemoryNeed, cache: u64) -> u64 {
    need.weights
        .saturating_add(cache)
        .saturating_add(need.positions())
        .saturating_add(working_space(need))
        .saturating_add(need.images)
        .saturating_add(CONTEXT)
}

fn working_space(need: &MemoryNeed) -> u64 {
    let shape = &need.shape;
    // A text of which a vector is made is taken as a whole.
    let (tokens, pair) = match need.mask_bytes_per_pair {
        Some(pair) => (need.context, pair),
        None => (need.context.min(PROMPT), need.bytes_per_element),
    };
    let width = shape.hidden_size.saturating_add(shape.intermediate_size);
    let layer = product([4, width, tokens, need.bytes_per_element]);
    let heads = shape.hidden_size.checked_div(shape.head_size).unwrap_or(0);
    let scores = product([2, 4, heads, tokens.min(CHUNK), tokens]);
    let mask = product([tokens, tokens, pair]);
    layer
        .saturating_add(scores)
        .saturating_add(mask)
        .saturating_add(need.vocabulary.saturating_mul(4))
}

fn product<const N: usize>(factors: [u64; N]) -> u64 {
    factors.into_iter().fold(1, u64::saturating_mul)
}

#[cfg(test)]
mod tests {
    use hangar_client::v1::{KvCache, ModelSpec, kv_cache::Size};

    use super::*;
    use crate::{device::Gpu, inspect::model_config::Shape};

    const GIB: u64 = 1 << 30;

    /// A model like Llama 3.1 8B in BF16.
    fn need() -> MemoryNeed {
        MemoryNeed {
            weights: 16 * GIB,
            shape: Shape {
                layers: 32,
                kv_heads: 8,
                head_size: 128,
                hidden_size: 4096,
                intermediate_size: 14_336,
                ..Shape::default()
            },
            bytes_per_element: 2,
            context: 8192,
            trained_context: 8192,
            vocabulary: 128_256,
            ..MemoryNeed::default()
        }
    }

    fn gpu() -> TargetDevice {
        TargetDevice::Gpu(Gpu {
            uuid: "GPU-1".into(),
            capability: (9, 0),
            memory: 80 * GIB,
        })
    }

    fn plan(config: &WorkerConfig, caches: bool) -> DevicePlan {
        DevicePlan::plan(config, gpu(), &need(), caches).expect("a plan")
    }

    #[bounded::test]
    fn on_a_cpu_requests_take_turns_whatever_is_asked() {
        let config = WorkerConfig {
            asked_concurrency: 8,
            spec: Some(ModelSpec {
                kv_cache: Some(KvCache::default()),
                ..ModelSpec::default()
            }),
            ..WorkerConfig::default()
        };
        let device_plan =
            DevicePlan::plan(&config, TargetDevice::Cpu, &need(), true).expect("a plan");
        assert_eq!(device_plan.concurrency, 1);
        assert_eq!((device_plan.need, device_plan.kv_cache), (0, None));
    }

    #[bounded::test]
    fn on_a_gpu_requests_take_turns_unless_the_spec_says_otherwise() {
        assert_eq!(plan(&WorkerConfig::default(), true).concurrency, 1);
        let config = WorkerConfig {
            asked_concurrency: 8,
            // The server's default, which is not what a GPU does well.
            max_concurrency: 4,
            ..WorkerConfig::default()
        };
        assert_eq!(plan(&config, true).concurrency, 8);
    }

    #[bounded::test]
    fn weights_cache_and_the_rest_add_up() {
        let device_plan = plan(&WorkerConfig::default(), true);
        let cache = 258 * (4 << 20);
        assert_eq!(device_plan.certain, 16 * GIB + cache);
        let positions = 8192 * 128 * 6;
        let layer = 4 * (4096 + 14_336) * 4096 * 2;
        let scores = 2 * 4 * 32 * 1024 * 4096;
        let mask = 4096 * 4096 * 2;
        let rest = positions + layer + scores + mask + 128_256 * 4 + CONTEXT;
        assert_eq!(device_plan.need, 16 * GIB + cache + rest);
    }

    #[bounded::test]
    fn each_request_that_may_run_adds_its_cache() {
        let config = WorkerConfig {
            asked_concurrency: 3,
            ..WorkerConfig::default()
        };
        let more = plan(&config, true).need - plan(&WorkerConfig::default(), true).need;
        assert_eq!(more, 2 * 257 * (4 << 20));
    }

    #[bounded::test]
    fn a_size_that_was_asked_for_is_what_is_counted() {
        let size = Some(Size::MemoryShare(0.5));
        let config = WorkerConfig {
            spec: Some(ModelSpec {
                kv_cache: Some(KvCache { size }),
                ..ModelSpec::default()
            }),
            asked_concurrency: 64,
            ..WorkerConfig::default()
        };
        assert_eq!(plan(&config, true).certain, 56 * GIB);
    }

    #[bounded::test]
    fn a_model_that_makes_no_text_has_no_cache() {
        let device_plan = plan(&WorkerConfig::default(), false);
        assert_eq!(device_plan.kv_cache, None);
        assert_eq!(device_plan.certain, 16 * GIB);
    }

    #[bounded::test]
    fn absurd_sizes_do_not_wrap() {
        let shape = Shape {
            layers: u64::MAX,
            ..need().shape
        };
        let need = MemoryNeed {
            shape,
            context: u64::MAX,
            ..need()
        };
        let config = WorkerConfig::default();
        let device_plan = DevicePlan::plan(&config, gpu(), &need, true).expect("a plan");
        assert_eq!(device_plan.need, u64::MAX);
    }
}
