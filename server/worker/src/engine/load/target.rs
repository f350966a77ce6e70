//! What the engine's loaders get of the device.

use std::num::NonZeroUsize;

use candle_core::Device;
use hangar_client::v1::DataType;
use mistralrs::core::{
    DefaultSchedulerMethod, MemoryGpuConfig, ModelDType, PagedAttentionConfig, PagedCacheType,
    SchedulerConfig,
};

use super::Loaded;
use crate::failure::Failure;
use crate::inspect::Inspection;
use crate::inspect::kv_cache::{BLOCK, KvPlan};

/// Where and in what a model is loaded.
pub(super) struct Target {
    /// The device.
    pub(super) device: Device,
    /// Type of the numbers.
    pub(super) dtype: ModelDType,
    /// The KV cache, if it is taken as a whole.
    pub(super) paged: Option<PagedAttentionConfig>,
}

impl Target {
    /// The target of a model that was inspected. Opens its device.
    pub(super) fn open(inspection: &Inspection) -> Result<Self, Failure> {
        let placement = &inspection.placement;
        let paged = placement.kv_cache.as_ref().map(paged).transpose()?;
        Ok(Self {
            device: placement.device.open()?,
            dtype: model_dtype(inspection.dtype),
            paged,
        })
    }
}

/// How the loaded model's requests are scheduled, at most `concurrency` of them at a time; and how many blocks
/// its cache has, if it has any.
pub(super) fn scheduler(
    loaded: &Loaded,
    concurrency: u32,
) -> Result<(SchedulerConfig, Option<u32>), Failure> {
    let pipeline = loaded
        .try_lock()
        .map_err(|_| Failure::internal("the loaded model is in use"))?;
    let concurrency = concurrency.max(1) as usize;
    let Some(config) = pipeline.get_metadata().cache_config.clone() else {
        let concurrency = NonZeroUsize::new(concurrency).unwrap_or(NonZeroUsize::MIN);
        let method = DefaultSchedulerMethod::Fixed(concurrency);
        return Ok((SchedulerConfig::DefaultScheduler { method }, None));
    };
    let blocks = u32::try_from(config.num_gpu_blocks).unwrap_or(u32::MAX);
    let scheduler = SchedulerConfig::PagedAttentionMeta {
        max_num_seqs: concurrency,
        config,
    };
    Ok((scheduler, Some(blocks)))
}

fn paged(plan: &KvPlan) -> Result<PagedAttentionConfig, Failure> {
    let mib = usize::try_from(plan.mib).unwrap_or(usize::MAX);
    PagedAttentionConfig::new(
        Some(BLOCK as usize),
        MemoryGpuConfig::MbAmount(mib),
        PagedCacheType::Auto,
    )
    .map_err(|e| Failure::internal(format!("no KV cache could be planned: {e:#}")))
}

/// The data type in the engine's terms; always an explicit one, since the engine's own choice probes for
/// accelerators.
fn model_dtype(dtype: DataType) -> ModelDType {
    match dtype {
        DataType::F32 => ModelDType::F32,
        DataType::Bf16 => ModelDType::BF16,
        DataType::F16 | DataType::Unspecified => ModelDType::F16,
    }
}
